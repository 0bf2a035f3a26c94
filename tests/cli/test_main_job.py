"""From a recipe to an adapter that stock libraries load: the whole path, through the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hf_finetune
from hf_finetune.cli import main
from hf_finetune.errors import RunFolderError
from tests.cli.photos import CLASSES
from tests.cli.recipes import write_recipe

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]
RUN_FILES = [
    "adapter",
    "checkpoints",
    "engine.json",
    "held.npz",
    "metrics.jsonl",
    "plan.json",
    "predictions.csv",
    "recipe.yaml",
    "report.html",
    "run.json",
    "splits.json",
]
ADAPTER_FILES = [
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "hf_finetune.json",
    "metrics.json",
    "preprocessor_config.json",
    "recipe.yaml",
]


STOCK = """
import json, sys
sys.modules["hf_finetune"] = None  # an import would fail
import torch
from PIL import Image
cards, images = json.loads(sys.argv[1])
images = [Image.open(path).convert("RGB") for path in images]
said = []
for card in cards:
    scope = {}
    exec(card, scope)
    with torch.no_grad():
        inputs = scope["processor"](images, return_tensors="pt").to(scope["model"].device)
        logits = scope["model"](**inputs).logits
    said.append([scope["model"].config.id2label[int(i)] for i in logits.argmax(-1)])
print(json.dumps(said))
"""


def stock_predictions(results: Sequence[Path], images: list[Path], base: Path | None, place: Path) -> list[list[str]]:
    """What each model card's own Python makes of the images: one fresh process that cannot import hf_finetune."""
    cards = []
    for folder in results:
        (code,) = re.findall(r"```python\n(from transformers.*?)```", (folder / "README.md").read_text("utf-8"), re.S)
        code = code.replace("ADAPTER_PATH_OR_HUB_ID", str(folder)).replace("MODEL_PATH_OR_HUB_ID", str(folder))
        cards.append(code.replace("PATH_OF_THE_BASE_MODEL", str(base)))
    shutil.copy(images[0], place / "photo.jpg")  # the card's lines end by opening it
    question = json.dumps([cards, [str(image) for image in images]])
    done = subprocess.run([sys.executable, "-c", STOCK, question], capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def answers(run: Path) -> list[list[str]]:
    """The rows of predictions.csv: number, name, label, predicted, …"""
    return [line.split(",") for line in (run / "predictions.csv").read_text("utf-8").splitlines()[1:]]


def test_the_main_job(recipe: Path, photos: Path, tiny: Path, tmp_path: Path, cli: Cli) -> None:
    code, out, err = cli("train", recipe)
    run = tmp_path / "run"
    assert code == 0, err
    assert "test accuracy" in out
    assert "adapter" in out
    report = json.loads((run / "run.json").read_text("utf-8"))
    *_, best = (rung["rung"] for rung in report["rungs"] if rung["kept"])
    frozen = ["features.safetensors"] if best == "probe" else []
    assert sorted({path.name for path in run.iterdir()} - {"run.lock"}) == sorted(RUN_FILES + frozen)
    assert sorted(path.name for path in (run / "adapter").iterdir()) == ADAPTER_FILES
    # PEFT writes a set in another order in every process; the same run twice is the same files
    targets = json.loads((run / "adapter" / "adapter_config.json").read_text("utf-8"))["target_modules"]
    assert targets == sorted(targets) and len(targets) > 1
    assert report["test"]["accuracy"] > 0.9
    assert report["data"]["labels"] == sorted(name.replace("/", "⁄") for name in CLASSES)
    # predictions.csv holds every test row once, and its accuracy is the reported one
    lines = answers(run)
    assert len({line[1] for line in lines}) == len(lines) == report["data"]["counts"]["test"] == 60
    assert sum(line[2] == line[3] for line in lines) / 60 == pytest.approx(report["test"]["accuracy"])
    # the same command again changes nothing
    code, _, err = cli("train", recipe)
    assert (code, "is finished; nothing to do" in err) == (0, True)
    # the evaluate verb finds the same numbers
    code, out, _ = cli("evaluate", run, "--json")
    assert json.loads(out)["accuracy"] == pytest.approx(report["test"]["accuracy"], abs=1e-6)  # rounded in run.json
    # stock libraries, alone, predict what was reported, row for row
    images = [photos / line[1] for line in lines]
    assert stock_predictions([run / "adapter"], images, tiny, tmp_path) == [[line[3] for line in lines]]
    # and so does hf_finetune.load, from another folder
    (run / "adapter").rename(tmp_path / "moved")
    classifier = hf_finetune.load(tmp_path / "moved")
    assert [p.label for p in classifier.predict(images)] == [line[3] for line in lines]
    code, out, _ = cli("predict", tmp_path / "moved", images[0], "--json", "--top", 3)
    answer = json.loads(out)
    assert sum(p["probability"] for p in answer["predictions"]) == pytest.approx(1, abs=1e-5)


WAYS = (
    ("adapter.kind=head_only",),
    ("adapter.kind=full", "train.learning_rate=0.003"),
    ("quantization.kind=int8",),
    ("quantization.kind=nf4",),
    ("quantization.kind=int8", "adapter.kind=head_only"),
    ("adapter.dora=true",),
    ("adapter.rslora=true", "adapter.dropout=0.1", "train.precision=fp32", "train.checkpointing=true"),
)


@pytest.fixture(scope="module")
def trained(tiny: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """The run folder of each of WAYS."""
    runs = {}
    for overrides in WAYS:
        folder = tmp_path_factory.mktemp("way")
        path = write_recipe(folder, model=tiny, data=photos, epochs=4, learning_rate=0.01)
        assert main(["train", str(path), f"data.cache_dir={folder / 'cache'}", *overrides]) == 0, overrides
        runs[overrides] = folder / "run"
    return runs


@pytest.fixture(scope="module")
def stock(
    trained: dict[tuple[str, ...], Path], tiny: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, ...], list[str]]:
    """What stock libraries predict for the test rows with each result, in the order of predictions.csv."""
    results = [run / ("model" if "adapter.kind=full" in overrides else "adapter") for overrides, run in trained.items()]
    images = [photos / row[1] for row in answers(trained[WAYS[0]])]
    said = stock_predictions(results, images, tiny, tmp_path_factory.mktemp("stock"))
    return dict(zip(trained, said, strict=True))


@pytest.mark.parametrize("overrides", WAYS, ids=" ".join)
def test_every_adapter_and_quantizer_arrives_in_stock_code(
    overrides: tuple[str, ...], trained: dict[tuple[str, ...], Path], stock: dict[tuple[str, ...], list[str]]
) -> None:
    rows = answers(trained[overrides])
    assert [row[1] for row in rows] == [row[1] for row in answers(trained[WAYS[0]])]
    # ties may fall either way
    assert sum(a == row[3] for a, row in zip(stock[overrides], rows, strict=True)) >= 59


def test_a_built_in_base_travels_along(recipe: Path, tmp_path: Path, photos: Path, cli: Cli) -> None:
    code, _, err = cli("train", recipe, "model.name=builtin:starter", "train.epochs=1")
    assert code == 0, err
    adapter = tmp_path / "run" / "adapter"
    assert (adapter / "base" / "model.safetensors").is_file()
    image = next(photos.rglob("*.jpg"))
    ((label,),) = stock_predictions([adapter], [image], None, tmp_path)
    assert label == hf_finetune.load(adapter).predict([image])[0].label


def test_two_runs_of_the_same_recipe_are_equal(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    for name in ("a", "b"):
        assert cli("train", recipe, f"output.dir={tmp_path / name}", "train.epochs=1")[0] == 0
    files = [(tmp_path / name / "adapter" / "adapter_model.safetensors").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]


def test_a_run_in_a_notebook(tiny: Path, tmp_path: Path) -> None:
    import datasets

    random = np.random.default_rng(0)
    images = [
        Image.fromarray(np.clip(60 + 90 * (n % 2) + random.normal(0, 20, (20, 24, 3)), 0, 255).astype(np.uint8))
        for n in range(60)
    ]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    data = datasets.Dataset.from_dict({"image": images, "label": [n % 2 for n in range(60)]}, features=features)
    run = hf_finetune.train(
        {
            "model": {"name": str(tiny)},
            "train": {"epochs": 6, "effective_batch_size": 8, "learning_rate": 0.01, "evaluations": 2},
            "output": {"dir": str(tmp_path / "run")},
        },
        data=data,
    )
    assert run.report["data"]["labels"] == ["dark", "light"]
    assert run.report["test"]["accuracy"] > 0.8
    assert len(run.predictions) == run.report["data"]["counts"]["test"]
    assert run.model.predict([images[0], images[1]])[1].label == "light"
    lying = Image.Exif()
    lying[274] = 6  # to be turned by a quarter
    half = Image.fromarray(np.concatenate([np.asarray(images[0]), np.asarray(images[1])]))
    half.save(tmp_path / "lying.png", exif=lying)
    with Image.open(tmp_path / "lying.png") as opened:
        from_image, from_file = run.model.predict([opened, tmp_path / "lying.png"])
        turned = run.model.predict([half.transpose(Image.Transpose.ROTATE_270)])[0]
    as_it_lies = run.model.predict([half])[0]
    # A kernel may add up an image of two otherwise than a single one. In float32 that moves logits by about 1e-5, and
    # probabilities, the small ones too, by that share of themselves.
    for found in (from_image, from_file):
        assert found.label == turned.label
        assert found.probabilities == pytest.approx(turned.probabilities, rel=1e-3, abs=0)
    assert as_it_lies.probabilities != pytest.approx(turned.probabilities, rel=1e-2, abs=0)
    with pytest.raises(RunFolderError, match="began on other data"):
        hf_finetune.train(run.folder.recipe, data=data.select(range(50)))


def test_an_interrupted_run_goes_on_where_it_was(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    """kill -9 after the first checkpoint; the same command ends with the same adapter as an undisturbed run."""
    longer = ["train.epochs=12", "train.evaluations=12"]
    assert cli("train", recipe, *longer, f"output.dir={tmp_path / 'calm'}")[0] == 0
    run = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_finetune", "train", str(recipe), *longer],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(run.glob("checkpoints/*/sealed.json")):
        pass
    process.kill()
    process.wait()
    assert not (run / "run.json").exists()
    code, _, err = cli("train", recipe, *longer)
    assert code == 0
    assert "Going on from" in err
    files = [(path / "adapter" / "adapter_model.safetensors").read_bytes() for path in (run, tmp_path / "calm")]
    assert files[0] == files[1]


def test_a_run_that_is_interrupted_in_its_test_keeps_the_best_rung(
    recipe: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("hf_finetune.pipeline.finish.evaluate_splits", interrupted)
        code, _, err = cli("train", recipe, "ladder=[probe]")
    assert code == 130
    assert "the best rung so far (probe) is saved in" in err
    assert hf_finetune.load(tmp_path / "run" / "adapter").labels.names
    page = tmp_path / "run" / "report.html"
    assert "This run was interrupted: the best rung so far became its result" in page.read_text(encoding="utf-8")
    assert cli("train", recipe, "ladder=[probe]")[0] == 0
    assert (tmp_path / "run" / "run.json").is_file()
    assert "was interrupted" not in page.read_text(encoding="utf-8")


def test_an_unfinished_run_is_not_continued_on_other_data(
    recipe: Path, tmp_path: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.cli.photos import write_photos

    own = write_photos(tmp_path_factory.mktemp("own"), per_class=12)
    assert cli("train", recipe, f"data.name={own}", "train.epochs=1")[0] == 0
    (tmp_path / "run" / "run.json").unlink()
    next((own / "train").rglob("*.jpg")).unlink()
    code, _, err = cli("train", recipe, f"data.name={own}", "train.epochs=1")
    assert (code, "began on other data" in err) == (2, True)


def test_plan_and_check_print_without_training(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    code, out, _ = cli("plan", recipe)
    assert (code, "micro_batch" in out, (tmp_path / "run").exists()) == (0, True, False)
    assert json.loads(cli("plan", recipe, "--json")[1])["steps"]["value"] == 12
    assert "epochs: 9.0" in cli("check", recipe, "train.epochs=9")[1]
    assert json.loads(cli("check", "--schema")[1])["title"] == "Recipe"


def test_recipes_are_listed_shown_and_copied(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "quickstart" in cli("recipes", "list")[1]
    shown = cli("recipes", "show", "quickstart")[1]
    assert cli("recipes", "copy", "quickstart")[0] == 0
    assert (tmp_path / "quickstart.yaml").read_text("utf-8") == shown
    code, _, err = cli("recipes", "copy", "quickstart")
    assert (code, err) == (
        2,
        "hf-finetune: quickstart.yaml exists already; nothing was written.\n  Give another target.\n",
    )
    code, _, err = cli("recipes", "show", "quikstart")
    assert (code, "Did you mean quickstart?" in err) == (2, True)


def test_the_range_test_suggests_a_rate_and_draws_a_plot(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    plot = tmp_path / "plot.png"
    code, out, _ = cli("lr-find", recipe, "--steps", 25, "--low", "1e-5", "--plot", plot)
    assert code == 0
    assert "the recipe's own: 1.00e-02\nplanned by `learning_rate: auto`: 5.00e-04\n" in out  # 1e-3 × √(16/64)
    with Image.open(plot) as image:
        assert image.width > 500
    assert not (tmp_path / "run").exists()


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from hf_finetune.cli.verbs import check, train

    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    for verb, module, said in (("train", train, "; the same command goes on with the run"), ("check", check, "")):
        monkeypatch.setattr(module, "run", interrupted)
        assert main([verb, "recipe.yaml"]) == 130
        assert capsys.readouterr().err == f"\nhf-finetune: interrupted{said}.\n"


def test_evaluate_scores_other_data_and_other_splits(
    recipe: Path, tmp_path: Path, cli: Cli, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.cli.photos import write_photos

    assert cli("train", recipe)[0] == 0
    code, out, _ = cli("evaluate", tmp_path / "run", "--split", "train")
    assert (code, "train accuracy" in out) == (0, True)
    only_a_test_set = write_photos(tmp_path_factory.mktemp("other"), splits=("test",), per_class=4)
    code, out, _ = cli("evaluate", tmp_path / "run", "--data", only_a_test_set, "--json")
    assert (code, json.loads(out)["rows"]) == (0, 12)
    code, out, _ = cli("evaluate", tmp_path / "run", "--data", only_a_test_set / "test", "--json")
    assert (code, json.loads(out)["rows"]) == (0, 12)  # a folder without splits counts as a whole
    (only_a_test_set / "test" / "1").rename(only_a_test_set / "test" / "cat")
    code, _, err = cli("evaluate", tmp_path / "run", "--data", only_a_test_set)
    assert (code, "has labels that the result does not know: cat" in err) == (2, True)
