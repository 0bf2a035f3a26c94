"""The page of all keys is what the types say now."""

from __future__ import annotations

import re
from pathlib import Path

from hf_finetune.recipe.recipe import Recipe
from hf_finetune.recipe.reference import render_reference

PAGE = Path(__file__).parents[2] / "docs" / "recipe-keys.md"


def test_the_page_is_what_the_types_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == render_reference(), "hf-finetune recipes keys > docs/recipe-keys.md"


def test_every_key_of_every_section_is_on_the_page() -> None:
    keys = set(re.findall(r"^- `([\w.]+)`", render_reference(), re.MULTILINE))
    for section, values in Recipe().model_dump(mode="json").items():
        if isinstance(values, dict):
            assert {f"{section}.{key}" for key in values if key != "kind"} <= keys
        else:
            assert section in keys


def test_types_are_in_words() -> None:
    page = " ".join(render_reference().split())
    assert '`train.epochs`: `auto` or a number above 0; default `"auto"`. Passes over the training rows' in page
    assert "`data.ignore_splits`: a list of text; default `[]`." in page
    assert "### adapter.kind: lora" in page
