"""A run that is killed and gone on with never ends below what it had reached: digits, whose cached rung is kept."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_finetune.data.sources.digits import read_values
from tests.ladder.test_climb import report_of, start, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name == "nt", reason="signals are sent in other ways there")]
RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "quickstart.yaml"
CACHED = r"cached [01]\.\d+ validation"


LADDER = ("ladder=[probe,cached,full]", "train.epochs=3", "output.report=false")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """400 of the digits, and a place for what is decoded once."""
    folder = tmp_path_factory.mktemp("digits")
    values, targets = read_values()
    for number, (pixels, target) in enumerate(zip(values[:400], targets[:400], strict=True)):
        place = folder / "digits" / str(target)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(8, 8), "L").save(place / f"{number}.png")
    return f"data.name={folder / 'digits'}", f"data.cache_dir={folder / 'cache'}"


def run(out: Path, *overrides: str) -> str:
    """What a run of the recipe says to its end."""
    process = start(RECIPE, out, *LADDER, *overrides)
    try:
        _, said = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said[-3000:]
    return said


def killed(out: Path, *overrides: str, at: str, until: Callable[[], bool] = lambda: True) -> None:
    """A run of the recipe that is killed once it has said something and something is so."""
    process = start(RECIPE, out, *LADDER, *overrides)
    try:
        wait_for(process, at)
        while not until():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.communicate()


def rungs_kept(out: Path) -> list[Path]:
    return list((out / "checkpoints").glob("rung-*.safetensors"))


def digest(out: Path) -> str:
    return sha256((out / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def test_what_a_rung_had_reached_is_not_replaced_by_the_probe(tmp_path: Path, given: tuple[str, str]) -> None:
    out = tmp_path / "run"
    killed(out, *given, "budget.time=15m", at=CACHED, until=lambda: bool(rungs_kept(out)))
    saved = digest(out)
    killed(out, *given, "budget.time=15m", at=r"probe  [01]\.\d+ validation")
    assert digest(out) == saved
    said = run(out, *given, "budget.time=15m")
    assert "reached before the interruption, in" in said
    assert re.search(r"Going on from what cached had reached in [\d.]+ ", said)
    assert f"Usable meanwhile: hf-finetune predict {out} IMAGE" in said and "Usable from now on" not in said
    report = report_of(out)
    again = [rung for rung in report["rungs"] if "reached before" in rung["note"]]
    assert [rung["rung"] for rung in again] == ["cached"]
    best = [rung for rung in report["rungs"] if rung["kept"]][-1]
    assert best["validation"]["accuracy"] >= again[0]["validation"]["accuracy"]
    assert report["validation"]["accuracy"] == pytest.approx(best["validation"]["accuracy"])
    assert not rungs_kept(out)


def test_a_rung_that_had_ended_is_not_trained_again(tmp_path: Path, given: tuple[str, str]) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    run(whole, *given)
    killed(out, *given, at=CACHED, until=lambda: bool(rungs_kept(out)))
    assert "reached before the interruption" in run(out, *given)
    one, two = report_of(whole), report_of(out)
    assert [rung["rung"] for rung in one["rungs"]] == [rung["rung"] for rung in two["rungs"]]
    assert [rung["validation"] for rung in one["rungs"]] == [rung["validation"] for rung in two["rungs"]]
    assert one["test"] == two["test"]
    assert digest(whole) == digest(out)
