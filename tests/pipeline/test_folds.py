"""Cross-validation of a closed-form head on frozen features."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

import hf_finetune
from hf_finetune.data.config import Data
from hf_finetune.data.index.folds import cut_folds
from hf_finetune.data.index.scan import scan
from hf_finetune.data.index.targets import strata
from hf_finetune.errors import FinetuneError
from hf_finetune.labels import Labels, Reading
from hf_finetune.ladder.probe.feature_cache import SplitFeatures
from hf_finetune.ladder.probe.heads import fit_heads
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.tasks import Target
from hf_finetune.tasks.classification import ClassTarget
from hf_finetune.tasks.regression import NumberTarget
from hf_finetune.types import label_array
from tests.cli.conftest import cli, tiny  # noqa: F401
from tests.cli.photos import CLASSES, write_photos
from tests.training.rows import save_tiny_vit

Cli = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photos`, 60 in three class folders of rising brightness, and a table of them with other labels."""
    folder = tmp_path_factory.mktemp("folds")
    write_photos(folder / "all", splits=("train",))
    (folder / "all" / "train").rename(folder / "photos")
    lines = ["image,level,labels,grade,house"]
    for level, name in enumerate(CLASSES):
        for number in range(20):
            path = f"photos/{name.replace('/', '⁄')}/{number}.jpg"
            said = ";".join(["dark"] * (level == 0) + ["light"] * (level > 0) + ["bright"] * (level == 2))
            lines.append(f"{path},{1000.5 + 250 * level + number / 10},{said},{level},{number % 6}")
    (folder / "table.csv").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.mark.parametrize("target", [
    ClassTarget(Labels(("a", "b", "c")), weights=(1.0, 2.0, 0.5)),
    NumberTarget(Labels(("price",)), (0.3,), (1.7,)),
])  # fmt: skip
def test_a_head_knows_nothing_of_the_rows_that_are_held_out(target: Target) -> None:
    random = np.random.default_rng(0)
    features = random.normal(2, 3, (60, 8)).astype(np.float32)
    if isinstance(target, ClassTarget):
        labels = (features[:, 0] > 2).astype(np.int64) + (features[:, 1] > 2)
    else:
        labels = (features @ random.normal(size=(8, 1)) + random.normal(size=(60, 1))).astype(np.float32)
    held = np.arange(60) % 5 == 1
    kept = SplitFeatures(np.arange(60), features, None, None)
    seen = SplitFeatures(np.arange(48), features[~held], None, None)
    alone = fit_heads(seen, labels[~held], target)
    spoilt, wrong = features.copy(), labels.copy()
    spoilt[held] = 1e3 * random.normal(size=(12, 8))
    wrong[held] = labels[held][::-1]
    for one, its in ((kept, labels), (SplitFeatures(np.arange(60), spoilt, None, None), wrong)):
        fitted = fit_heads(one, its, target, (~held).astype(np.float64))
        assert fitted.parts[0].choice.penalty == alone.parts[0].choice.penalty
        assert fitted.parts[0].choice.loss == pytest.approx(alone.parts[0].choice.loss, rel=1e-9)
        np.testing.assert_allclose(fitted.closed_form().weight, alone.closed_form().weight, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(fitted.closed_form().bias, alone.closed_form().bias, rtol=1e-4, atol=1e-6)


def settings(photos: Path, tiny: Path, **data: Any) -> dict[str, Any]:  # noqa: F811
    return {
        "model": {"name": str(tiny)},
        "data": {"name": str(photos / "table.csv"), **data},
        "train": {"decode_workers": 1},
    }


@pytest.mark.parametrize(
    ("column", "task", "best", "least"),
    [
        ("level", {"kind": "regression", "log": True}, "r2", 0.9),
        ("labels", {"kind": "multilabel", "separator": ";"}, "map", 0.9),
        ("grade", {"kind": "ordinal"}, "kappa", 0.9),
        ("grade", {"kind": "classification"}, "accuracy", 0.9),
    ],
)
def test_every_kind_of_task_is_cross_validated(
    photos: Path,
    tiny: Path,  # noqa: F811
    column: str,
    task: dict[str, Any],
    best: str,
    least: float,
) -> None:
    recipe = settings(photos, tiny, label_column=column, group_column="house") | {"task": task}
    found = hf_finetune.cross_validate(recipe, folds=3)
    assert next(iter(found["metrics"])) == best
    assert found["task"] == task["kind"]
    assert sorted(found["sizes"]) == [18, 21, 21]
    figures = found["metrics"][best]
    assert figures["pooled"] == found["pooled"][best] > least
    assert figures["mean"] == pytest.approx(np.mean(figures["each"]))
    assert figures["std"] == pytest.approx(np.std(figures["each"], ddof=1))
    assert len(figures["each"]) == 3
    assert found["pooled"]["rows"] == found["rows"] == 60
    assert "kept together: 6 groups of house" in found["notes"]


def test_a_target_is_settled_on_each_fold_s_training_rows(photos: Path, tmp_path: Path) -> None:
    """A backbone that sees nothing says the mean of the rows that it was fitted on."""
    blind = save_tiny_vit(tmp_path / "blind")
    weights = load_file(blind / "model.safetensors")
    weights |= {name: weight * 0 for name, weight in weights.items() if "patch_embeddings.projection" in name}
    save_file(weights, blind / "model.safetensors", metadata={"format": "pt"})
    recipe = settings(photos, blind, label_column="level", group_column="house") | {"task": {"kind": "regression"}}
    found = hf_finetune.cross_validate(recipe, folds=3)
    config = Data.model_validate(recipe["data"] | {"validation_share": 0, "test_share": 0})
    index = scan(config, seed=0, reading=Reading("numbers"))
    rows = index.splits["train"]
    numbers = label_array(rows)[:, 0].astype(float)
    fold_of = cut_folds(rows, strata(index.columns[0], [row.label for row in rows])[0], 3, 0)
    expected = [np.abs(numbers[fold_of == fold] - numbers[fold_of != fold].mean()).mean() for fold in range(3)]
    assert found["metrics"]["mae"]["each"] == pytest.approx(expected, rel=1e-5)
    assert found["metrics"]["r2"]["pooled"] < 0


def test_seeds_draw_other_folds_and_the_same_seed_the_same_scores(photos: Path, tiny: Path) -> None:  # noqa: F811
    recipe = settings(photos, tiny, label_column="level")

    def each(*overrides: str) -> list[float]:
        return hf_finetune.cross_validate(recipe, ["task.kind=regression", *overrides])["metrics"]["r2"]["each"]

    assert each("data.split_seed=1") == each("data.split_seed=1", "train.seed=9") == each("train.seed=1")
    assert each("data.split_seed=2") != each("data.split_seed=1")


def test_the_command_prints_a_table_and_json(photos: Path, tiny: Path, cli: Cli) -> None:  # noqa: F811
    given = (photos / "photos", f"model.name={tiny}", "train.decode_workers=1", "--folds", "4")
    code, out, _ = cli("evaluate", *given)
    assert code == 0
    assert re.match(r"metric +mean ± std +pooled +folds\n", out)
    assert "accuracy" in out and "4 folds of 15 rows, 60 in all" in out
    code, out, _ = cli("evaluate", *given, "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["accuracy"]["pooled"] > 0.9
    code, _, err = cli("evaluate", *given, "--split", "test")
    assert code == 2 and "--split: with --folds a recipe says what is read" in err
    code, _, err = cli("evaluate", *given, "--logit-adjustment", "1")
    assert code == 2 and "--logit-adjustment: with --folds a recipe says what is read" in err


def test_a_fold_is_the_test_of_a_run_and_all_of_them_hold_every_row_once(photos: Path) -> None:
    name, reading = str(photos / "table.csv"), Reading("classes")
    common = {"name": name, "label_column": "grade", "group_column": "house"}
    tests = []
    for number in range(1, 4):
        index = scan(Data.model_validate({**common, "fold": f"{number}/3"}), seed=0, reading=reading)
        assert index.cut == ("validation", "test")
        sides = [{row.name for row in index.splits[split]} for split in ("train", "validation", "test")]
        assert len(set.union(*sides)) == sum(map(len, sides)) == 60
        houses = [{row.unit for row in rows} for rows in index.splits.values()]
        assert len(set.union(*houses)) == sum(map(len, houses)) == 6
        tests.append(sides[2])
    assert len(set.union(*tests)) == sum(map(len, tests)) == 60
    whole = scan(Data.model_validate({**common, "validation_share": 0, "test_share": 0}), seed=0, reading=reading)
    rows = whole.splits["train"]
    fold_of = cut_folds(rows, strata(whole.columns[0], [row.label for row in rows])[0], 3, 0)
    for number, names in enumerate(tests):
        assert names == {row.name for row, own in zip(rows, fold_of, strict=True) if own == number}


def test_a_fold_takes_the_place_of_a_given_test_split_only(tmp_path: Path) -> None:
    write_photos(tmp_path, splits=("train", "validation", "test"), per_class=7)
    index = scan(Data(name=str(tmp_path), fold="1/3"), seed=0)
    assert index.cut == ("test",)
    assert {split: len(rows) for split, rows in index.splits.items()} == {"train": 14, "validation": 21, "test": 7}
    assert all(row.name.startswith("train/") for row in index.splits["test"])
    assert "the given test split (21 rows) is not used: the test is a fold" in map(str, index.notes)


@pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "1/5/5", "-1/5"])
def test_a_fold_that_is_none_is_refused(fold: str) -> None:
    with pytest.raises(FinetuneError, match=r"data\.fold: expected which of how many folds is the test, such as 2/5"):
        load_recipe({"data": {"fold": fold}}, [])


def test_the_whole_ladder_is_cross_validated_on_request(
    photos: Path,
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    cli: Cli,  # noqa: F811
) -> None:
    out = tmp_path / "out"
    given = (photos / "photos", f"model.name={tiny}", f"output.dir={out}", "train.decode_workers=1", "train.epochs=1")
    line = ("evaluate", *given, "ladder=[probe,full]", "--folds", "2", "--trained")
    code, text, err = cli(*line, "--json")
    assert code == 0, err
    found = json.loads(text)
    assert (found["rows"], found["sizes"], "pooled" in found) == (60, [30, 30], False)
    each = []
    for number, run in enumerate(found["runs"], 1):
        assert run["folder"] == str(out / f"fold-{number}-of-2")
        report = json.loads((Path(run["folder"]) / "run.json").read_text("utf-8"))
        assert [rung["rung"] for rung in report["rungs"]] == ["probe", "full"]
        assert run["kept"] in ("probe", "full")
        each.append(report["test"]["accuracy"])
        code, scored, err = cli("evaluate", run["folder"], "--json")  # the very rows of its fold
        assert code == 0, err
        assert json.loads(scored)["rows"] == 30 and json.loads(scored)["accuracy"] == each[-1]
    assert found["metrics"]["accuracy"]["each"] == each
    assert found["metrics"]["accuracy"]["mean"] == pytest.approx(np.mean(each))
    code, text, _ = cli(*line)
    assert code == 0 and "2 folds of 30 rows, 60 in all" in text and "pooled" not in text
    code, _, err = cli("evaluate", *given, "--folds", "2", "--trained", "data.fold=1/2")
    assert code == 2 and "data.fold: with --folds each has its turn, found 1/2" in err
    code, _, err = cli("evaluate", out / "fold-1-of-2", "--trained")
    assert code == 2 and "--trained: how many folds are trained is expected, found none" in err


def test_runs_of_folds_say_that_a_given_test_split_is_not_used(tmp_path: Path, tiny: Path) -> None:  # noqa: F811
    write_photos(tmp_path / "photos", splits=("train", "test"), per_class=7)
    recipe = {
        "model": {"name": str(tiny)},
        "data": {"name": str(tmp_path / "photos")},
        "train": {"decode_workers": 1},
        "budget": {"time": 0},
        "output": {"dir": str(tmp_path / "out")},
    }
    found = hf_finetune.cross_validate(recipe, folds=2, trained=True)
    assert found["rows"] == 21
    assert "the given test split (21 rows) is not used: the test is a fold" in found["notes"]


def test_a_given_test_split_is_left_out_and_validation_pooled(tmp_path: Path, tiny: Path) -> None:  # noqa: F811
    write_photos(tmp_path, splits=("train", "validation", "test"), per_class=7)
    recipe = {"model": {"name": str(tiny)}, "data": {"name": str(tmp_path)}, "train": {"decode_workers": 1}}
    found = hf_finetune.cross_validate(recipe, folds=3)
    assert found["rows"] == 42
    assert "the given test split (21 rows) is in no fold" in found["notes"]


def test_thin_classes_unreadable_images_and_small_folds_are_told(tmp_path: Path, tiny: Path) -> None:  # noqa: F811
    write_photos(tmp_path, splits=("train",), per_class=5)
    for number in range(3):
        (tmp_path / "train" / "1" / f"{number}.jpg").unlink()
    (tmp_path / "train" / "grün" / "0.jpg").write_bytes(b"no image")
    recipe = {
        "model": {"name": str(tiny)},
        "data": {"name": str(tmp_path / "train"), "max_bad_share": 0.2},
        "train": {"decode_workers": 1},
    }
    found = hf_finetune.cross_validate(recipe, folds=5)
    assert found["rows"] == 11
    assert [row["name"] for row in found["left_out"]] == ["grün/0.jpg"]
    assert "2 classes with fewer rows or groups than folds, which some folds lack: 1, grün" in found["notes"]
    assert "a fold has only 2 rows: read the pooled scores, not those of a fold" in found["notes"]


def test_too_many_folds_are_refused_before_anything_is_decoded(photos: Path, tiny: Path, own_cache: Path) -> None:  # noqa: F811
    with pytest.raises(FinetuneError, match="--folds: no more folds than groups of rows are expected, found 7 for 60"):
        hf_finetune.cross_validate(settings(photos, tiny, label_column="grade", group_column="house"), folds=7)
    assert not list(own_cache.rglob("*.npy"))


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("folds", [1, 0, -1])
def test_one_fold_is_none(photos: Path, tiny: Path, folds: int, trained: bool) -> None:  # noqa: F811
    with pytest.raises(FinetuneError, match=f"--folds: at least 2 are expected, found {folds}\n  5 and 10 are usual"):
        hf_finetune.cross_validate(settings(photos, tiny, label_column="grade"), folds=folds, trained=trained)


def test_an_adapter_to_start_from_is_refused(photos: Path, tiny: Path) -> None:  # noqa: F811
    with pytest.raises(FinetuneError, match=r"adapter\.from: folds begin at the base itself"):
        hf_finetune.cross_validate(settings(photos, tiny, label_column="grade"), ["adapter.from=runs/other"])


@pytest.mark.real
def test_houses_sell_for_what_their_fronts_say(shared_data: Path) -> None:
    recipe = {
        "model": {"name": str(shared_data / "weights/vit_tiny_timm")},
        "data": {"name": str(shared_data / "datasets/houses/houses.csv"), "label_column": "price_usd"},
        "task": {"kind": "regression", "log": True},
    }
    found = hf_finetune.cross_validate(recipe, ["data.group_column=house"], folds=5)
    assert found["rows"] == 535
    assert found["metrics"]["r2"]["pooled"] >= 0.45
