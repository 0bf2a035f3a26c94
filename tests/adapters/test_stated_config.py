"""An adapter's config is held to the weights beside it before PEFT does as it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_finetune.adapters.stated_config import check_tame, stated_config
from hf_finetune.errors import AdapterError

SHAPES = {
    f"base_model.model.vit.layers.{layer}.attention.{name}.{part}": shape
    for layer in (0, 1)
    for name in ("q_proj", "v_proj")
    for part, shape in (("lora_A.weight", (4, 64)), ("lora_B.weight", (64, 4)))
} | {"base_model.model.classifier.weight": (3, 64), "base_model.model.classifier.bias": (3,)}
NAMES = {f"vit.layers.{layer}.attention.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj")}
GOOD = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


def write(folder: Path, content: Any) -> Path:
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


def test_what_agrees_with_the_weights_is_taken_as_it_is(tmp_path: Path) -> None:
    config: Any = stated_config(write(tmp_path, GOOD), SHAPES)
    assert (config.r, set(config.target_modules)) == (4, {"q_proj", "v_proj"})


def test_a_pattern_gives_way_to_the_names_of_the_weights(tmp_path: Path) -> None:
    content = {**GOOD, "target_modules": r".*\.attention\.(q|v)_proj$"}
    assert set(stated_config(write(tmp_path, content), SHAPES).target_modules) == NAMES  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: {**c, "r": 10**9}, "r: the rank of the weights is expected, [4], found 1000000000"),
        (lambda c: {**c, "r": "4"}, "found '4'"),
        (lambda c: {**c, "lora_alpha": float("nan")}, "lora_alpha: a number up to 1,000,000 is expected, found nan"),
        (lambda c: {**c, "lora_alpha": 1e308}, "lora_alpha: a number up to 1,000,000 is expected, found 1e+308"),
        (lambda c: {**c, "lora_alpha": 0}, "lora_alpha: a number up to 1,000,000 is expected, found 0"),
        (
            lambda c: {**c, "target_modules": ["q_proj", "fc1"]},
            "names fc1, of which there are no weights",
        ),
        (lambda c: {**c, "target_modules": "x" * 3_000}, "could take for ever"),
        (lambda c: {**c, "rank_pattern": {"q_proj": 8}}, "rank_pattern: not known of a result"),
        (lambda c: {**c, "peft_type": "IA3"}, "peft_type: one of LORA, LN_TUNING is expected, found 'IA3'"),
        (lambda _: [1], "an object is expected, found a list"),
        (lambda _: {}, "peft_type"),
    ],
)
def test_what_does_not_is_refused(tmp_path: Path, change: Callable[[Any], Any], said: str) -> None:
    with pytest.raises(AdapterError, match=r"adapter_config\.json in .* cannot be used") as raised:
        stated_config(write(tmp_path, change(GOOD)), SHAPES)
    assert said in raised.value.message


@pytest.mark.parametrize("pattern", [r".*\.(q|v)_proj$", r"(.*)\.layer\.[0-9]+\.attention", "head", r".*attn.*qkv"])
def test_patterns_that_people_write_are_tame(pattern: str) -> None:
    check_tame(pattern, "target_modules")


@pytest.mark.parametrize("pattern", [r"(a|b)+$", r"(x*)*", r"(x){2,}", r".*a.*b.*c.*d", "x" * 3_000])
def test_patterns_that_may_take_for_ever_are_not(pattern: str) -> None:
    with pytest.raises(ValueError, match="could take for ever to match"):
        check_tame(pattern, "target_modules")
