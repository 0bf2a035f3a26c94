"""A recipe is loaded, overridden, refused and dumped as a person expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from hf_finetune.adapters import Full, HeadOnly, Lora
from hf_finetune.errors import RecipeError
from hf_finetune.recipe.recipe import Recipe, dump_recipe, load_recipe, recipe_schema


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(source: object, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides)  # pyright: ignore[reportArgumentType]
    return str(caught.value)


def test_an_empty_recipe_is_the_built_in_example(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "r.yaml", ""))
    assert (recipe.model.name, recipe.data.name) == ("builtin:starter", "builtin:digits")


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "train: {epochs: 7, seed: 5}\n")
    recipe = load_recipe(path, ["train.epochs=2", "budget.memory=4GB"])
    assert (recipe.train.epochs, recipe.train.seed, recipe.train.optimizer) == (2, 5, "adamw")
    assert recipe.budget.memory == 4_000_000_000


def test_all_problems_come_at_once_with_line_path_and_close_match(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.yaml",
        "adapter:\n  kind: lora\n  rnak: 3\ntrian: {}\ntrain:\n  epochs: many\n  optimizer: adamm\n  micro_batch: 0\n"
        "budget:\n  memory: 4\n",
    )
    assert refused(path) == (
        f"{path} is not a valid recipe:\n"
        "  - line 3: adapter.rnak: unknown key; did you mean rank?\n"
        "  - line 6: train.epochs: auto or a valid number is expected; found 'many'\n"
        "  - line 7: train.optimizer: one of adamw, adam, sgd, adamw_8bit, lion is expected; found 'adamm'; "
        "did you mean adam?\n"
        "  - line 8: train.micro_batch: auto or a number greater than or equal to 1 is expected; found 0\n"
        "  - line 10: budget.memory: a unit is expected, such as 4GB or 512MiB; found 4\n"
        "  - line 4: trian: unknown key; did you mean train?"
    )


def test_a_wrong_item_of_a_list_is_named_and_not_the_word_that_could_stand_for_the_list() -> None:
    assert refused({"ladder": ["probe", "ful"]}) == (
        "recipe is not a valid recipe:\n"
        "  - ladder.1: one of probe, cached, full is expected; found 'ful'; did you mean full?"
    )
    assert "ladder: auto or a list is expected; found 'probe'" in refused({"ladder": "probe"})


def test_a_default_that_follows_from_a_wrong_value_is_no_second_problem() -> None:
    assert refused({"adapter": {"rank": 0}}) == (
        "recipe is not a valid recipe:\n  - adapter.rank: a number greater than or equal to 1 is expected; found 0"
    )


def test_an_unknown_kind_names_those_there_are() -> None:
    assert "adapter: kind must be one of lora, head_only, full; found lorra; did you mean lora?" in refused(
        {"adapter": {"kind": "lorra"}}
    )


def test_a_key_of_another_kind_is_unknown() -> None:
    text = refused({"adapter": {"kind": "full", "rank": 8}})
    assert "adapter.rank: unknown key; it knows kind" in text


def test_budget_time_is_in_seconds_and_nothing_means_no_limit() -> None:
    assert load_recipe({"budget": {"time": "2m"}}).budget.time == 120
    assert load_recipe({"budget": {"time": 0}}).budget.time == 0
    assert load_recipe({}).budget.time is None
    assert "such as 150s or 2m" in refused({}, "budget.time=2")


def test_quantized_full_fine_tuning_is_refused() -> None:
    text = refused({"adapter": {"kind": "full"}, "quantization": {"kind": "int8"}})
    assert "quantization.kind: int8 keeps the backbone frozen, but adapter.kind is full" in text


def test_the_same_key_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "train:\n  epochs: 1\n  epochs: 2\n")
    assert refused(path) == f"{path}: the same key is written twice: train.epochs (lines 2 and 3)."


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("output.dir=2026-11-27", "text is expected; found 2026-11-27, which YAML reads as date: quote it"),
        ("task={targets: {price: regression}}", "task.targets: at least 2 keys are expected; found price"),
        ("adapter.rank=8.5", "adapter.rank: a whole number is expected; found 8.5"),
        (
            "augment.crop_scale=[.5,1,1]",
            "augment.crop_scale: a list of at most 2 values is expected; found [0.5, 1, 1]",
        ),
        ("hub.repo=a b", "a Hub repo such as user/name is expected (letters, digits, '-', '_', '.'; 96 characters), "),
    ],
)
def test_what_pydantic_says_reads_as_a_sentence(override: str, said: str) -> None:
    text = refused({}, override)
    assert said in text
    assert text.count("found") == 1


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epochs", "'epochs': an override is written section.key=value, such as train.epochs=3"),
        ("=3", "'=3': an override is written section.key=value, such as train.epochs=3"),
        ("train.epochs=[", "'train.epochs=[': the value is not valid YAML; quote it"),
        ("model.name.x=3", "model.name.x: name is 'm' in the recipe, not a section"),
    ],
)
def test_a_malformed_override_is_named(override: str, said: str) -> None:
    assert said in refused({"model": {"name": "m"}}, override)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "a mapping of sections (model, data, …) is expected, found a list."),
        ("a: [\n", "is not valid YAML"),
        ("train: 3\n", "train: a section with keys is expected; found 3"),
        ("output: {dir: 2026-27-11}\n", "is not valid YAML: month must be in 1..12"),
        ('data: {name: "C:\\photos"}\n', "Write Windows paths without quotes, or with /."),
    ],
)
def test_what_is_no_mapping_of_sections_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(write(tmp_path / "r.yaml", text))


def test_a_missing_file_says_how_to_find_the_shipped_ones(tmp_path: Path) -> None:
    assert "`hf-finetune recipes list` names the shipped ones" in refused(tmp_path / "none.yaml")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    assert "is a folder; a recipe is a YAML file" in refused(tmp_path)


def test_the_default_kind_is_understood_where_none_is_written() -> None:
    assert load_recipe({"adapter": {"rank": 4}}).adapter == Lora(rank=4)
    assert isinstance(load_recipe({"adapter": {"kind": "head_only"}}).adapter, HeadOnly)
    assert isinstance(load_recipe({}, ["adapter.kind=full"]).adapter, Full)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"budget": {"memory": "1.5GB"}, "data": {"store_limit": "300MiB"}, "task": {"class_weights": [1.0, 2.5]}},
        {"adapter": {"targets": ["attention"]}, "train": {"learning_rate": "1e-3", "epochs": 0.5}},
    ],
)
def test_a_dumped_recipe_reads_back_equal(content: dict[str, object]) -> None:
    recipe = load_recipe(content)
    assert load_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(("text", "count"), [("4GB", 4e9), ("512MiB", 512 * 2**20), ("1.5 gb", 1.5e9)])
def test_bytes_are_read_with_their_unit(text: object, count: float) -> None:
    assert load_recipe({"budget": {"memory": text}}).budget.memory == count


@pytest.mark.parametrize("text", [0, "0", "0GB"])
def test_a_budget_of_nothing_is_refused(text: object) -> None:
    assert "budget.memory: a number greater than 0 is expected" in refused({"budget": {"memory": text}})


@pytest.mark.parametrize(
    "content",
    [
        {"train": {"micro_batch": True}},
        {"train": {"epochs": False}},
        {"data": {"class_level": True}},
        {"task": {"class_weights": [True, 2.0]}},
        {"adapter": {"rank": True}},
        {"augment": {"crop_ratio": [True, 2]}},
    ],
)
def test_a_truth_value_is_no_number(content: dict[str, dict[str, object]]) -> None:
    assert "is expected; found 'true'" in refused(content).replace("'false'", "'true'")
    load_recipe({"train": {"checkpointing": True}, "data": {"label_column": True}})  # those take one


@pytest.mark.parametrize("text", ["4", 4, "4 parsecs", "-1GB", True, [4]])
def test_bytes_without_a_known_unit_are_refused(text: object) -> None:
    assert "such as 4GB or 512MiB" in refused({"budget": {"memory": text}})


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_recipe({}).train.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_the_schema_knows_every_section_and_refuses_others() -> None:
    schema = recipe_schema()
    assert set(schema["properties"]) == set(Recipe.model_fields)
    assert schema["additionalProperties"] is False


def test_an_adapter_to_start_from_is_called_by_its_key_everywhere() -> None:
    recipe = load_recipe({}, ["adapter.from=user/other@v2"])
    assert isinstance(recipe.adapter, Lora)
    assert (recipe.adapter.start, recipe.adapter.rank, recipe.adapter.targets) == ("user/other@v2", None, None)
    dumped = recipe.model_dump(mode="json")["adapter"]
    assert (dumped["from"], dumped["rank"], "start" in dumped) == ("user/other@v2", None, False)
    assert load_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
    lora = recipe_schema()["$defs"]["Lora"]["properties"]
    assert "start" not in lora
    assert (lora["rank"]["default"], lora["targets"]["default"]) == (8, "all")
    assert (load_recipe({}).adapter, load_recipe({"adapter": {"rank": 8}}).adapter) == (Lora(), Lora(rank=8))
    assert Lora().rank == 8


@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"from": ""}, "line 2: adapter.from: text of at least 1 character is expected; found ''"),
        ({"from": 3}, "line 2: adapter.from: text is expected; found 3, which YAML reads as int: quote it"),
        ({"start": "user/other"}, "line 2: adapter.start: unknown key; did you mean targets?"),
        ({"zz": "user/other"}, "line 2: adapter.zz: unknown key; it knows kind, from, rank, alpha, "),
        ({"form": "user/other"}, "line 2: adapter.form: unknown key; did you mean from?"),
        (
            {"rank": None},
            "line 2: adapter.rank: a value is expected where adapter.from names no adapter to take it from",
        ),
    ],
)
def test_what_cannot_be_said_of_a_start(tmp_path: Path, adapter: dict[str, object], said: str) -> None:
    assert said in refused(write(tmp_path / "r.yaml", yaml.safe_dump({"adapter": adapter}, default_flow_style=False)))


def test_only_lora_starts_from_an_adapter() -> None:
    text = refused({"adapter": {"kind": "head_only", "from": "user/other"}})
    assert "adapter.from: unknown key; it knows kind" in text


WRONG = (None, 3, 3.5, -1, 1e9, float("nan"), "x", "", "auto", True, [], ["x"], [1, 2, 3], {"a": 1}, {"kind": "x"})


@pytest.mark.parametrize("section", [name for name, field in Recipe.model_fields.items() if name != "ladder"])
def test_no_wrong_value_is_answered_in_pydantics_own_words(section: str) -> None:
    annotation = Recipe.model_fields[section].annotation
    members: tuple[Any, ...] = get_args(annotation) or (annotation,)
    for member in members:
        kind = {"kind": member.model_fields["kind"].default} if "kind" in member.model_fields else {}
        for key, field in member.model_fields.items():
            for value in WRONG:
                try:
                    load_recipe({section: {**kind, field.alias or key: value}})
                except RecipeError as error:
                    assert "nput should" not in error.message and "unable to" not in error.message, error.message


def test_the_engine_int8_insists_on_integers() -> None:
    int8: dict[str, Any] = {"kind": "int8"}
    assert load_recipe({"quantization": int8}).compute == "auto"
    assert load_recipe({"quantization": int8, "model": {"engine": "int8"}}).compute == "integer"
    assert load_recipe({"quantization": {**int8, "compute": "dequantized"}}).compute == "dequantized"
    assert load_recipe({}).compute == "auto"
    with pytest.raises(RecipeError, match="int8 multiplies integers, found"):
        load_recipe({"quantization": {**int8, "compute": "llm_int8"}, "model": {"engine": "int8"}})
