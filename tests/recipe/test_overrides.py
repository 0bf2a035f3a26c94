"""What the command line says over a recipe: keys of another kind are left out, and mistakes are blamed on it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.errors import RecipeError
from hf_finetune.recipe.recipe import Recipe, load_recipe
from hf_finetune.recipe.suggest import _ELSEWHERE, option_as_key

LORA = "adapter:\n  kind: lora\n  rank: 16\n  targets: [attention]\ntrain:\n  epochs: 3\n"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(LORA)
    return tmp_path / "r.yaml"


def refused(source: object, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


@pytest.mark.parametrize(("kind", "adapter"), [("full", Full()), ("head_only", HeadOnly())])
def test_another_kind_leaves_out_what_it_does_not_have_and_says_so(
    kind: str, adapter: object, recipe: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_recipe(recipe, [f"adapter.kind={kind}"]).adapter == adapter
    assert caplog.messages == [
        f"adapter.kind={kind}: adapter.rank, adapter.targets of the recipe left out, which it does not have."
    ]
    assert load_recipe({"adapter": {"rank": 4}}, [f"adapter.kind={kind}"]).adapter == adapter


def test_nothing_is_left_out_where_the_kind_stays(recipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = load_recipe(recipe, ["adapter.kind=lora", "adapter.alpha=4"]).adapter
    assert (found, caplog.messages) == (Lora(rank=16, alpha=4, targets=("attention",)), [])
    assert load_recipe(recipe, ["adapter={kind: full}"]).adapter == Full()


def test_a_key_that_no_kind_has_stays_a_mistake_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("adapter: {kind: lora, rnak: 16}\n")
    assert refused(tmp_path / "r.yaml", "adapter.kind=full") == (
        f"{tmp_path / 'r.yaml'} is not a valid recipe:\n  - line 1: adapter.rnak: unknown key; it knows kind"
    )


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.epochs=x"], "train.epochs: auto or a valid number is expected; found 'x'"),
        (["adapter.rank=0"], "adapter.rank: a number greater than or equal to 1 is expected; found 0"),
        (["trian.epochs=2"], "trian: unknown key; did you mean train?"),
        (["adapter.kind=lorra"], "adapter: kind must be one of lora, head_only, full; found lorra; did you mean lora?"),
        (
            ["adapter.kind=full", "adapter.rank=2"],
            "adapter.rank: unknown key; it knows kind; rank is of adapter.kind lora",
        ),
        (["ladder=[probe,ful]"], "ladder.1: one of probe, cached, full is expected; found 'ful'; did you mean full?"),
        (["budget.time=0", "ladder=[full]"], "budget.time: 0 means the probe alone, but ladder does not name it; "),
        (["epochs"], "'epochs': an override is written section.key=value, such as train.epochs=3"),
    ],
)
def test_a_mistake_on_the_command_line_is_blamed_on_it_without_a_line(
    overrides: list[str], said: str, recipe: Path
) -> None:
    text = refused(recipe, *overrides)
    assert text.startswith(f"The command line cannot be used:\n  - {said}")
    assert str(recipe) not in text and "line " not in text.replace("command line", "")


def test_what_both_did_wrong_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("train:\n  epochs: x\n  seed: 1\n")
    assert refused(tmp_path / "r.yaml", "train.seed=-1") == (
        f"{tmp_path / 'r.yaml'} is not a valid recipe:\n"
        "  - line 2: train.epochs: auto or a valid number is expected; found 'x'\n"
        "The command line cannot be used:\n"
        "  - train.seed: a number greater than or equal to 0 is expected; found -1"
    )


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("train.lr=3", "did you mean learning_rate?"),
        ("train.batch_size=3", "did you mean effective_batch_size?"),
        ("train.rank=3", "did you mean adapter.rank?"),
        ("adapter.lr=3", "did you mean train.learning_rate?"),
        ("lr=3", "did you mean train.learning_rate?"),
        ("epochs=3", "did you mean train.epochs?"),
        ("epochz=3", "did you mean train.epochs?"),
        ("lora.rank=3", "did you mean adapter?"),
        ("data.path=x", "did you mean name?"),
        ("output.path=x", "did you mean dir?"),
        ("train.report_to=wandb", "did you mean tracking.to?"),
        ("model=facebook/dinov2-small", "found 'facebook/dinov2-small'; did you mean model.name?"),
        ("quantization=nf4", "found 'nf4'; did you mean quantization.kind?"),
    ],
)
def test_a_key_of_another_tool_or_section_is_understood(override: str, meant: str) -> None:
    assert refused({}, override).endswith(meant)


def test_every_key_that_is_suggested_exists_and_no_name_means_two() -> None:
    schema = Recipe.model_json_schema()
    known = {
        f"{section}.{key}"
        for section, field in schema["properties"].items()
        for member in [field, *field.get("oneOf", ()), *field.get("anyOf", ())]
        if "$ref" in member
        for key in schema["$defs"][member["$ref"].rpartition("/")[2]]["properties"]
    }
    assert set(_ELSEWHERE) <= known
    names = [name for others in _ELSEWHERE.values() for name in others.split()]
    assert len(names) == len(set(names))
    assert [option_as_key(each, Recipe) for each in ("--lr", "--train.epochs=3", "--rank=8", "--zz")] == [
        "train.learning_rate",
        "train.epochs",
        "adapter.rank",
        None,
    ]
