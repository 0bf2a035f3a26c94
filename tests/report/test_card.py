"""The model card: valid for the Hub, letter for letter, and silent about the machine's paths."""

from __future__ import annotations

import re
import shlex
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_finetune.data.index.duplicates import describe
from hf_finetune.report.card import model_card
from hf_finetune.report.references import last_component, without_paths
from hf_finetune.report.results import FITTED_TOO
from hf_finetune.report.snippet import stock_snippet
from hf_finetune.types import Note
from tests.report.example import AWKWARD, TRASHNET, example

HUB = {"model": "timm/vit_tiny", "commit": "c" * 40, "data": "garythung/trashnet", "data_commit": "d" * 40}
INT8 = {"load_in_8bit": True, "llm_int8_skip_modules": ["head"], "_load_in_8bit": True}
# POSIX and Windows paths, but neither web addresses nor a class called n/a.
ABSOLUTE = re.compile(r"(?<![\w.:/`])/(?:home|Users|root|tmp|var|work|opt|mnt|data)/|[A-Za-z]:\\|\\\\|(?<!\w)~/")


def head(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table after `heading`, as GitHub's tables split them, unescaped."""
    table = text.split(f"{heading}\n\n", 1)[1].split("\n\n", 1)[0].splitlines()
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table[2:]]
    return [[re.sub(r"\\(.)", r"\1", cell[1:-1]) for cell in row] for row in rows]


def test_the_front_matter_of_a_hub_base_and_dataset_holds_what_the_hub_reads() -> None:
    data = head(model_card(example(**HUB)))
    assert data["license"] == "apache-2.0"
    assert data["base_model"] == "timm/vit_tiny"
    assert data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft"
    assert data["pipeline_tag"] == "image-classification"
    assert data["datasets"] == ["garythung/trashnet"]
    assert data["tags"] == ["hf_finetune", "lora", "timm"]
    [result] = data["model-index"][0]["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {
        "name": "trashnet", "type": "garythung/trashnet", "split": "test", "revision": "d" * 40
    }  # fmt: skip
    score = example().test
    assert {metric["name"]: metric["value"] for metric in result["metrics"]} == {
        "Accuracy": round(score["accuracy"], 4),
        "Macro F1": round(score["macro_f1"], 4),
        "Top-5 accuracy": round(score["top5"], 4),
    }


@pytest.mark.parametrize("labels", [TRASHNET, AWKWARD])
@pytest.mark.parametrize("test", [True, False])
def test_huggingface_hub_reads_the_card_back_without_a_remark(labels: list[str], test: bool) -> None:
    card = ModelCard(model_card(example(labels, **HUB, test=test)))
    assert card.data.base_model == "timm/vit_tiny"
    assert [result.metric_name for result in card.data.eval_results] == ["Accuracy", "Top-5 accuracy", "Macro F1"]
    assert {result.dataset_split for result in card.data.eval_results} == {"test" if test else "validation"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"labels": AWKWARD},
        {"model": "C:\\Users\\anna\\vit", "data": "D:\\photos\\set one.csv"},
        {"model": "~/weights/vit", "data": "../../photos"},
        {"model": "builtin:starter", "data": "builtin:digits"},
        {"overrides": ("quantization.kind=int8",), "quantization_config": INT8},
        {"overrides": ("adapter.kind=full",)},
    ],
)
def test_a_card_holds_no_path_of_the_machine(options: dict[str, Any]) -> None:
    text = model_card(example(**options))
    own_names = text.replace("/m/01g317", "")
    assert ABSOLUTE.search(re.sub(r"\\([\\`*_{}\[\]<>#|~&])", r"\1", own_names)) is None
    assert "anna" not in text
    assert ".." not in text
    assert "cache" not in text.lower()


def test_a_card_says_whether_images_unlike_the_training_images_are_marked() -> None:
    marks = " `hf-finetune predict` marks images that are unlike those of training."
    assert marks not in model_card(example())
    assert marks in model_card(replace(example(), files={"typical.safetensors": "0" * 64}))


def test_a_card_counts_duplicates_and_names_no_file_of_theirs() -> None:
    report = example()
    notes = describe([[("train", "a", "Jane_Doe.jpg"), ("test", "b", "patient.jpg")]])
    text = model_card(replace(report, data={**report.data, "notes": notes}))
    assert "1 image found byte-equal in more than one split" in text
    assert "1 image found under contradictory labels" in text
    assert "Jane" not in text and "patient" not in text


def test_a_note_of_an_older_run_may_name_anything_and_is_only_counted() -> None:
    report = example()
    text = model_card(replace(report, data={**report.data, "notes": ["1 image ignored: Jane_Doe.jpg", Note("a", "b")]}))
    assert "- a\n- Notes on the data that may name files and are kept in run.json: 1.\n" in text
    assert "Jane" not in text


def test_a_local_base_is_named_by_its_folder_with_the_fingerprint_of_its_weights() -> None:
    text = model_card(example())
    assert "base_model" not in head(text)
    assert "datasets" not in head(text)
    assert "The base model vit\\_tiny\\_timm was a local folder." in text
    assert f"sha256 `{'3f' * 32}`" in text


def test_a_built_in_base_is_said_to_travel_along() -> None:
    text = model_card(example(model="builtin:starter", data="builtin:digits"))
    assert "it travels in `base/` in this folder" in text
    assert "base_model" not in head(text)
    assert head(text)["model-index"][0]["name"] == "starter-digits"
    assert head(text)["model-index"][0]["results"][0]["dataset"]["type"] == "digits"


def test_the_card_prints_the_stock_snippet_word_for_word() -> None:
    report = example(**HUB)
    assert f"```python\n{stock_snippet(report)}" in model_card(report)


@pytest.mark.parametrize(
    ("options", "merged", "names"),
    [
        ({}, False, ["transformers", "torch", "pillow", "peft", "timm"]),
        ({}, True, ["transformers", "torch", "pillow", "timm"]),
        (
            {"overrides": ("quantization.kind=int8",), "quantization_config": INT8},
            False,
            ["transformers", "torch", "pillow", "peft", "timm", "bitsandbytes", "accelerate"],
        ),
        (
            {"overrides": ("quantization.kind=int8",), "quantization_config": INT8},
            True,
            ["transformers", "torch", "pillow", "timm"],
        ),
    ],
)
def test_the_card_says_what_its_lines_need(options: dict[str, Any], merged: bool, names: list[str]) -> None:
    text = model_card(example(**options), merged=merged)
    (line,) = re.findall(r"^pip install (.*)$", text, re.MULTILINE)
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    bounds = [each for name in names for each in project["dependencies"] if each.startswith(f"{name}>=")]
    assert shlex.split(line) == bounds
    assert len(bounds) == len(names)
    assert "These lines need transformers 5" in text


def test_awkward_class_names_are_shown_letter_for_letter_and_long_ones_cut() -> None:
    names = [row[1] for row in cells(model_card(example(AWKWARD)), "## Labels")]
    assert names[:-1] == AWKWARD[:-1]
    assert names[-1] == "w" * 79 + "…"
    assert [row[0] for row in cells(model_card(example(AWKWARD)), "### By class")][:-1] == AWKWARD[:-1]


def test_line_breaks_in_a_class_name_do_not_break_its_table() -> None:
    labels = ["a\nb", "c\r\nd", "e\u2028f", "tab\tg", "---", "# h"]
    assert [row[1] for row in cells(model_card(example(labels)), "## Labels")] == [
        "a b", "c  d", "e f", "tab g", "---", "# h",
    ]  # fmt: skip


def test_five_hundred_classes_list_the_fifty_weakest_and_count_the_rest() -> None:
    labels = [f"Klasse {i} | 漢字 `{i}`" for i in range(500)]
    report = example(labels)
    text = model_card(report)
    rows = cells(text, "### The 50 weakest of 500 classes")
    assert len(rows) == 50
    scores = [float(row[3]) for row in rows]
    assert scores == sorted(scores)
    seen = [row["f1"] for row in report.test["per_class"].values() if row["support"] > 0]
    assert scores[0] == pytest.approx(min(seen), abs=5e-4)
    assert {row[0] for row in rows} <= set(labels)
    assert "500 classes; their names are in `config.json`" in text
    assert len(text) < 40_000
    ModelCard(text)


def test_the_recipe_in_the_card_is_yaml_without_output_and_cache() -> None:
    text = model_card(example(**HUB))
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert recipe["adapter"]["rank"] == 8
    assert recipe["model"]["name"] == "timm/vit_tiny"
    assert set(recipe) == {"model", "data", "task", "adapter", "quantization", "augment", "ladder", "train", "budget"}
    assert "cache_dir" not in recipe["data"]


def test_full_fine_tuning_gives_a_transformers_model_card() -> None:
    data = head(model_card(example(**HUB, overrides=("adapter.kind=full",))))
    assert (data["library_name"], data["base_model_relation"]) == ("transformers", "finetune")
    assert "lora" not in data["tags"]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("Apache-2.0", {"license": "apache-2.0"}),
        (None, {"license": "unknown"}),
        ("dinov3-license", {"license": "other", "license_name": "dinov3-license"}),
    ],
)
def test_a_licence_the_hub_does_not_list_is_named_as_other(stated: str | None, expected: dict[str, str]) -> None:
    report = example()
    report.model["licence"] = stated  # pyright: ignore[reportIndexIssue]
    data = head(model_card(report))
    assert {key: data[key] for key in ("license", "license_name") if key in data} == expected


def test_a_card_says_whether_the_head_knows_the_validation_images() -> None:
    report = example()
    both, one = ({**report.model, "fitted_on": splits} for splits in (["train", "validation"], ["train"]))
    assert FITTED_TOO in model_card(replace(report, model=both))
    for model in (one, report.model):  # a run of before does not say
        assert FITTED_TOO not in model_card(replace(report, model=model))


def test_without_a_test_split_the_card_says_that_its_figures_are_optimistic() -> None:
    text = model_card(example(test=False))
    assert "There was no test split" in text
    assert "**Accuracy on validation: " in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open '/home/anna b/x y.jpg' now", "cannot open x y.jpg now"),
        ("in /data/sets/beans/train: 3", "in train: 3"),
        ("~/photos/a.jpg and C:\\Users\\a\\b.png", "a.jpg and b.png"),
        ("\\\\server\\share\\c.png", "c.png"),
        ("see https://huggingface.co/timm/vit and n/a or and/or 3/4", None),
        ("train/glass/1.jpg and 1./2. and ...", None),
        ("../../photos: 3, ./x/y and ..\\z\\w", "photos: 3, y and w"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_component_and_nothing_else(text: str, expected: str | None) -> None:
    assert without_paths(text) == (text if expected is None else expected)


@pytest.mark.parametrize("path", ["a/b/vit", "a/b/vit/", "C:\\w\\vit", "vit", "../vit//"])
def test_the_last_component_of_either_systems_path(path: str) -> None:
    assert last_component(path) == "vit"


def test_what_a_program_brought_is_said_without_the_names_of_its_modules() -> None:
    brought = {"loss": "my_company.secret.focal (0123)", "metrics": {"kappa": "my_company.secret.kappa (4567)"}}
    report = example(**HUB)
    text = model_card(replace(report, extensions=brought, test={**report.test, "kappa": 0.8125}))
    assert "brought its own loss; the recipe alone does not repeat it" in text
    assert ["kappa", "0.812", ""] in cells(text, "## Results")
    assert "my_company" not in text
    assert "brought its own" not in model_card(report)
