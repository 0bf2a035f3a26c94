"""The scale benchmark: its photo sets are what the product reads, its slope is right, and its watching sees."""

from __future__ import annotations

import sys
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))  # as `python benchmarks/scale.py` has it

from process_tree import watch  # noqa: E402
from scale import cases, exponent, growth  # noqa: E402
from synthetic import HEIGHT, WIDTH, write_tree  # noqa: E402

from hf_finetune.data.config import Data  # noqa: E402
from hf_finetune.data.index.scan import scan  # noqa: E402


def test_the_product_reads_a_synthetic_set_and_finds_no_equal_images(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "photos", images=30, classes=3)
    index = scan(Data(name=str(folder)), seed=0)
    assert index.labels.names == ("class_000000", "class_000001", "class_000002")
    rows = [row for split in index.splits.values() for row in split]
    assert Counter(row.label for row in rows) == {0: 10, 1: 10, 2: 10}
    assert not index.rejected and not index.notes
    files = sorted(folder.rglob("*.jpg"))
    assert len({sha256(file.read_bytes()).digest() for file in files}) == 30
    with Image.open(files[0]) as photo:
        assert photo.format == "JPEG" and photo.size == (WIDTH, HEIGHT)


def test_a_set_is_made_again_byte_for_byte_and_another_seed_is_another_set(tmp_path: Path) -> None:
    def content(name: str, seed: int) -> list[bytes]:
        return [file.read_bytes() for file in sorted(write_tree(tmp_path / name, 5, 2, seed).rglob("*.jpg"))]

    assert content("a", 0) == content("b", 0)
    assert not set(content("c", 1)) & set(content("a again", 0))


def test_a_set_with_an_empty_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one image a class is expected, got 2 images of 3 classes"):
        write_tree(tmp_path, images=2, classes=3)


@pytest.mark.parametrize(("power", "factor"), [(1.0, 3.0), (2.0, 0.5), (0.0, 7.0), (0.5, 1e-6)])
def test_the_exponent_of_a_power_is_the_power(power: float, factor: float) -> None:
    sizes = [1_000, 10_000, 100_000]
    assert exponent(sizes, [factor * size**power for size in sizes]) == pytest.approx(power)


def test_the_exponent_of_three_sizes_is_the_least_squares_slope() -> None:
    # In units of ln 2: x − mean is −1, 0, 1 and y − mean −2/3, 1/3, 1/3, so the slope is 1 / 2.
    assert exponent([1, 2, 4], [1, 2, 2]) == pytest.approx(0.5)


@pytest.mark.parametrize(("sizes", "costs"), [([10], [1.0]), ([10, 10], [1.0, 2.0]), ([1, 10], [0.0, 1.0])])
def test_no_exponent_without_two_sizes_and_costs(sizes: list[int], costs: list[float]) -> None:
    with pytest.raises(ValueError, match="two sizes and costs above 0 are expected"):
        exponent(sizes, costs)


def test_growth_tells_linear_from_worse() -> None:
    def row(size: int) -> dict[str, object]:
        seconds = {"images": 0.001 * size, "test": 1e-6 * size**2, "total": 10 + 0.001 * size + 1e-6 * size**2}
        memory = {"anonymous_bytes": 500 + size, "mapped_bytes": 100, "written_bytes": None, "run_folder_bytes": 5}
        return {"images": size, "ladder": ["probe"], "seconds": seconds, **memory}

    (found,) = growth([row(10_000), row(1_000), row(100_000)], "images")
    assert found["sizes"] == [1_000, 10_000, 100_000]
    assert found["exponents"]["images s"] == pytest.approx(1)
    assert found["exponents"]["test s"] == pytest.approx(2)
    assert found["exponents"]["mapped_bytes"] == pytest.approx(0)
    assert "written_bytes" not in found["exponents"] and "probe s" not in found["exponents"]
    assert found["anonymous_growth_bytes"] == 99_000
    assert found["step_ms"] == pytest.approx([12.0, 111.0])


def test_every_set_is_run_once_and_classes_grow_with_equal_images() -> None:
    assert cases([1_000, 40_000], [10, 20_000], 10_000) == [(1_000, 10), (40_000, 10), (40_000, 20_000)]
    assert cases([1_000], [10], 10_000) == [(1_000, 10)]


HOLD = """
import mmap, subprocess, sys, time
mine = bytearray(b"x") * 40_000_000  # no passing copy, which a sample may meet or miss
with open(sys.argv[1], "w+b") as file:
    file.truncate(20_000_000)
    with mmap.mmap(file.fileno(), 0) as view:
        for start in range(0, 20_000_000, 1_000_000):
            view[start : start + 1_000_000] = b"y" * 1_000_000
        time.sleep(0.5)
if len(sys.argv) > 2:
    subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1] + ".child"], check=True)
"""


@pytest.mark.e2e
def test_watching_counts_children_and_tells_mapped_pages_from_anonymous(tmp_path: Path) -> None:
    def run(name: str, *more: str) -> tuple[float, float, float | None]:
        command = [sys.executable, "-c", HOLD, str(tmp_path / name), *more]
        used = watch(command, tmp_path / "log")
        assert used.code == 0, (tmp_path / "log").read_text()
        assert used.seconds > 0.5
        return used.anonymous_bytes, used.mapped_bytes, used.written_bytes

    anonymous, mapped, written = run("alone")
    with_child, _, written_by_both = run("both", HOLD)
    # What both hold at one moment is 80 MB and two interpreters.
    assert with_child > anonymous + 35e6
    if sys.platform == "linux":
        assert 40e6 < anonymous < 110e6
        assert 20e6 < mapped < 60e6
        if written:  # 0 where the temporary folder is in memory
            assert written == pytest.approx(20e6, rel=0.2)
            assert written_by_both == pytest.approx(40e6, rel=0.2)


@pytest.mark.e2e
def test_a_command_that_fails_says_so(tmp_path: Path) -> None:
    used = watch([sys.executable, "-c", "print('why'); raise SystemExit(3)"], tmp_path / "log")
    assert used.code == 3
    assert (tmp_path / "log").read_text() == "why\n"
