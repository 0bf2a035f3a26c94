"""A card that a person edited is told from one that this program wrote."""

from __future__ import annotations

from hf_finetune.report.card import model_card
from hf_finetune.report.card_mark import is_unedited
from tests.report.example import example


def test_a_card_is_known_until_a_person_changes_it() -> None:
    card = model_card(example(), repo="anna/beans")
    assert is_unedited(card)
    assert is_unedited(card.replace("\n", "\r\n"))
    assert not is_unedited(card.replace("# ", "# My ", 1))
    assert not is_unedited(card + "\nSee also my other models.\n")
    assert not is_unedited("# A card without the line\n")
    assert not is_unedited("")
