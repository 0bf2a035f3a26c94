"""A run on 12-bit pictures: one scale in training, `evaluate`, `predict`, Python, the card's lines and `export`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hf_finetune
from hf_finetune.cli import main
from hf_finetune.errors import DataError
from hf_finetune.result.manifest import read_manifest

pytestmark = pytest.mark.e2e

_STOCK = """
import json, sys
sys.modules["hf_finetune"] = None
import numpy as np
from PIL import Image, ImageOps
from transformers import pipeline
card, whole, lines = json.loads(sys.argv[1])
card_scope = {}
exec(card, card_scope)
scope = {}
exec(lines, scope)
ask = pipeline("image-classification", model=whole)
label = card_scope["model"].config.id2label
print(json.dumps({
    "card": {label[i]: float(p) for i, p in enumerate(card_scope["probabilities"])},
    "converted": {each["label"]: each["score"] for each in ask(scope["image"], top_k=9)},
    "plain": {each["label"]: each["score"] for each in ask("photo.jpg", top_k=9)},
}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe on sixty 16-bit PNGs of three brightness levels within 12 bits."""
    folder = tmp_path_factory.mktemp("grey")
    random = np.random.default_rng(0)
    for level, name in enumerate(("dark", "light", "middle")):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(20):
            values = np.clip((0.2, 0.8, 0.5)[level] + random.normal(0, 0.1, (30, 40)), 0, 1) * 4095
            Image.fromarray(values.astype(np.uint16)).save(folder / "photos" / name / f"{number}.png")
    settings = (f"data.name={folder / 'photos'}", f"output.dir={folder / 'run'}", "data.max_pixels=60000000")
    assert main(["train", "quickstart", "ladder=[probe]", "train.decode_workers=1", *settings]) == 0
    return folder / "run"


def test_training_says_its_scale_and_every_verb_uses_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads((run / "run.json").read_text("utf-8"))
    assert report["data"]["value_range"] == [0, 4095]
    assert report["test"]["accuracy"] > 0.9
    assert any("sees other pixels" in note["text"] for note in report["data"]["notes"])
    manifest = read_manifest(run / "adapter")
    assert (manifest.preprocess.value_range, manifest.max_pixels) == ((0.0, 4095.0), 60_000_000)
    assert main(["evaluate", str(run), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["accuracy"] == pytest.approx(report["test"]["accuracy"], abs=1e-6)
    assert score["loss"] == pytest.approx(report["test"]["loss"], rel=1e-4)
    photos = sorted((run.parent / "photos").rglob("1.png"))
    classifier = hf_finetune.load(run)
    for opened in (photos, [photo.read_bytes() for photo in photos], [Image.open(photo) for photo in photos]):
        assert [each.label for each in classifier.predict(opened)] == ["dark", "light", "middle"]
    # values beyond the scale are clipped and counted, wherever they come from
    glaring = run.parent / "glaring.png"
    values = np.asarray(Image.open(photos[1])).copy()
    values[:3] = 60_000
    Image.fromarray(values).save(glaring)
    assert classifier.predict([glaring])[0].clipped == 120
    assert main(["predict", str(run), str(glaring)]) == 0
    assert "120 of its values lie beyond the range that the run was trained with" in capsys.readouterr().err
    (run.parent / "other" / "light").mkdir(parents=True)
    shutil.move(glaring, run.parent / "other" / "light")
    assert main(["evaluate", str(run), "--data", str(run.parent / "other"), "--json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["notes"]
    assert note == "1 of 1 test images hold values beyond 0 to 4095, which are clipped (10 % of all their pixels)"


def test_a_result_of_8_bit_images_does_not_guess(run: Path, tmp_path: Path) -> None:
    adapter = shutil.copytree(run / "adapter", tmp_path / "adapter")
    content = json.loads((adapter / "hf_finetune.json").read_text("utf-8"))
    content["preprocess"]["value_range"] = None
    (adapter / "hf_finetune.json").write_text(json.dumps(content), "utf-8")
    photo = next((run.parent / "photos").rglob("*.png"))
    with pytest.raises(DataError, match="16-bit grey, and no value of it is known to be white"):
        hf_finetune.load(adapter).predict([photo])


def test_stock_code_is_told_and_the_lines_do_what_is_needed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole"
    assert main(["export", str(run), str(whole)]) == 0
    said = capsys.readouterr().out
    assert "of which stock code (a pipeline, Pillow's convert) sees other pixels" in said
    card = (run / "adapter" / "README.md").read_text("utf-8")
    assert "values 0 to 4095 become black to white" in card
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.S)
    (convert,) = re.findall(r"```python\n(.*?)```", (whole / "README.md").read_text("utf-8"), re.S)
    photo = run.parent / "photos" / "dark" / "3.png"
    shutil.copy(photo, tmp_path / "photo.jpg")
    question = json.dumps([lines.replace("ADAPTER_PATH_OR_HUB_ID", str(run / "adapter")), str(whole), convert])
    done = subprocess.run([sys.executable, "-c", _STOCK, question], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    (expected,) = hf_finetune.load(run).predict([photo])
    assert (expected.label, max(answers["card"], key=answers["card"].get)) == ("dark", "dark")
    assert list(answers["card"].values()) == pytest.approx(expected.probabilities, abs=1e-4)
    assert answers["converted"]["dark"] == pytest.approx(expected.probability, abs=0.02)  # torchvision's resize
    assert max(answers["plain"], key=answers["plain"].get) != "dark"
