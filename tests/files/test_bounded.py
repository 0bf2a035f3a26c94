"""What somebody else wrote is read within bounds, and says where it goes beyond them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from hf_finetune.files.bounded import DEEPEST, OutOfBoundsError, read_json, read_yaml
from hf_finetune.recipe.recipe import dump_recipe, load_recipe


def test_plain_data_is_read_as_yaml_has_it() -> None:
    assert read_yaml("a: [1, .5, yes]\nb: {c: null}") == {"a": [1, 0.5, True], "b": {"c": None}}
    assert read_yaml("") is None


def test_a_deep_text_is_read_to_the_last_level_that_is_allowed() -> None:
    value = read_yaml("[" * DEEPEST + "]" * DEEPEST)
    for _ in range(DEEPEST - 1):
        (value,) = value
    assert value == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "line 1 is more than 50 levels deep"),
        ("a: &x [1]\nb: *x\n", "line 2 repeats &x: write it out"),
        ("a: " + "1" * 100, "103 bytes are more than the 99 that are read"),
    ],
)
def test_what_could_take_for_ever_is_refused_before_it_is_built(text: str, said: str) -> None:
    with pytest.raises(OutOfBoundsError, match=said.replace("&", r"\&")):
        read_yaml(text, most_bytes=99 if text.startswith("a: 1") else 10**6)


def test_other_mistakes_keep_their_own_errors() -> None:
    with pytest.raises(yaml.YAMLError):
        read_yaml("a: [")
    with pytest.raises(ValueError, match="month must be in"):
        read_yaml("2026-27-11")
    with pytest.raises(yaml.YAMLError):
        read_yaml("!!python/object/apply:os.getcwd []")


def test_a_recipe_that_is_written_can_be_read(tmp_path: Path) -> None:
    weights = [1.0, 2.0]
    recipe = load_recipe({"task": {"class_weights": weights}, "ladder": ["probe"], "output": {"dir": str(tmp_path)}})
    assert load_recipe(read_yaml(dump_recipe(recipe))) == recipe


def test_json_is_bounded_too(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"a": [1]}))
    assert read_json(file) == {"a": [1]}
    with pytest.raises(OutOfBoundsError, match="10 bytes are more than the 9"):
        read_json(file, most_bytes=9)
    file.write_text("[" * 200_000)
    with pytest.raises(ValueError):
        read_json(file)
