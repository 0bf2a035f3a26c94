"""What a person gets wrong: a clear text, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.hub_server.repos import timm_model

pytestmark = pytest.mark.e2e

Cli = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str]) -> str:
    code, _, err = result
    assert code == 2, err
    assert err.startswith("hf-finetune: ") or "\nhf-finetune: " in err
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("adapter.rnak=3", "adapter.rnak: unknown key; did you mean rank?"),
        ("train.epochs=many", "train.epochs: auto or a valid number is expected; found 'many'"),
        ("budget.time=2", "budget.time: a unit is expected, such as 150s or 2m"),
        ("data.name=nowhere/photos", "data.name"),
        ("data.test_split=tset", "data.test_split"),
        ("model.name=nowhere/model/x", "model.name: there is no folder 'nowhere/model/x'"),
        ("task.class_weights=[1.0,2.0]", "task.class_weights"),
        ("adapter.targets=[qurey]", "qurey"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(override: str, said: str, recipe: Path, tmp_path: Path, cli: Cli) -> None:
    assert said in refused(cli("train", recipe, override))
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_model_that_is_no_image_classifier_is_refused_by_name(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"")
    assert "bert" in refused(cli("train", recipe, f"model.name={tmp_path / 'bert'}")).lower()


def test_an_empty_folder_and_one_class_are_refused(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    assert "data.name" in refused(cli("train", recipe, f"data.name={tmp_path / 'empty'}"))
    (tmp_path / "one" / "only").mkdir(parents=True)
    for number in range(8):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / "one" / "only" / f"{number}.png")
    assert "only" in refused(cli("train", recipe, f"data.name={tmp_path / 'one'}"))


def spoil(folder: Path) -> dict[str, str]:
    """Odd and broken files among the photos: name → whether it can be read."""
    good = next(folder.rglob("*.jpg")).read_bytes()
    place = next((folder / "train").iterdir())
    (place / "zero.jpg").write_bytes(b"")
    (place / "cut.jpg").write_bytes(good[: len(good) // 2])
    (place / "text.jpg").write_text("not found")
    Image.fromarray(np.full((20, 20), 40000, np.uint16)).save(place / "sixteen.png")
    Image.new("CMYK", (20, 20), (0, 90, 90, 0)).save(place / "cmyk.jpg")
    frames = [Image.new("P", (20, 20), color) for color in (1, 2)]
    frames[0].save(place / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("RGBA", (20, 20), (9, 9, 9, 0)).save(place / "clear.png")
    return {"zero.jpg": "no", "cut.jpg": "no", "text.jpg": "no", "sixteen.png": "yes", "cmyk.jpg": "yes"}


def test_photos_that_are_no_images_by_suffix_are_named_where_a_class_is_missing(
    recipe: Path, tmp_path: Path, cli: Cli
) -> None:
    for name, suffix in (("cats", "psd"), ("dogs", "png")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / "pets" / name / f"{number}.{suffix}", "PNG")
    said = refused(cli("train", recipe, f"data.name={tmp_path / 'pets'}"))
    assert "found only dogs (3 files ignored that are not images by suffix: .psd 3)" in said


def test_a_home_folder_is_understood_for_model_and_run(
    recipe: Path, tiny: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # Windows
    (tmp_path / "model").symlink_to(tiny)
    code, _, err = cli("train", recipe, "model.name=~/model", "output.dir=~/at-home", "ladder=[probe]")
    assert code == 0, err
    assert (tmp_path / "at-home" / "run.json").is_file()


def test_overrides_may_stand_behind_an_option(recipe: Path, cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cli("plan", recipe, "--json", "train.epochs=7")
    assert (code, json.loads(out)["epochs"]["value"]) == (0, 7)
    with pytest.raises(SystemExit) as ended:
        cli("plan", recipe, "--jsno", "train.epochs=7")
    assert ended.value.code == 2
    assert "unrecognized arguments: --jsno train.epochs=7" in capsys.readouterr().err


def test_a_plot_that_could_not_be_written_is_refused_before_the_test(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    assert "--plot: there is no folder" in refused(cli("lr-find", recipe, "--plot", tmp_path / "none" / "x.png"))
    assert "--plot: an image file is expected" in refused(cli("lr-find", recipe, "--plot", tmp_path / "x.xyz"))


def test_a_place_that_may_not_be_entered_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hf_finetune.cli.verbs import check

    def forbidden(_: object) -> int:
        raise PermissionError(13, "Permission denied", str(tmp_path / "locked"))

    monkeypatch.setattr(check, "run", forbidden)  # what the system would say; tests may run as root, who may enter all
    assert f"{tmp_path / 'locked'} may not be read or written" in refused(cli("check", "recipe.yaml"))


def test_a_misspelt_run_folder_is_named_as_one(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = refused(cli("predict", "runs/quikstart", "x.png"))
    assert f"did you mean {tmp_path / 'runs' / 'quickstart'}?" in said


def test_a_dataset_that_was_in_memory_is_asked_for(tiny: Path, tmp_path: Path, photos: Path, cli: Cli) -> None:
    files = sorted((photos / "train").glob("*/*"))
    train = "import sys, hf_finetune; files = sys.argv[3:]; pairs = [(f, f.split('/')[-2]) for f in files]; "
    train += "recipe = {'model': {'name': sys.argv[1]}, 'ladder': ['probe'], 'output': {'dir': sys.argv[2]}}; "
    train += "hf_finetune.train(recipe, data=pairs)"
    command = [sys.executable, "-c", train, str(tiny), str(tmp_path / "run"), *(file.as_posix() for file in files)]
    subprocess.run(command, check=True, capture_output=True)
    said = refused(cli("evaluate", tmp_path / "run"))
    assert f"they were a list of {len(files)} images" in said and "--data" in said


def test_broken_images_stop_the_run_above_the_stated_share(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    from tests.cli.photos import write_photos

    odd = spoil(write_photos(tmp_path / "photos"))
    err = refused(cli("train", recipe, f"data.name={tmp_path / 'photos'}"))
    assert "data.max_bad_share" in err
    for name, readable in odd.items():
        assert (name in err) == (readable == "no")


def test_broken_images_below_the_share_are_skipped_and_named(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    import json

    from tests.cli.photos import write_photos

    spoil(write_photos(tmp_path / "photos"))
    code, _, err = cli("train", recipe, f"data.name={tmp_path / 'photos'}", "data.max_bad_share=0.2", "train.epochs=1")
    assert code == 0, err
    rejected = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["data"]["rejected"]
    assert sorted(Path(row["name"]).name for row in rejected) == ["cut.jpg", "text.jpg", "zero.jpg"]
    assert all(row["reason"] for row in rejected)


def test_a_batch_of_all_rows_shrinks_with_those_that_cannot_be_read(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    import json

    from tests.cli.photos import write_photos

    photos = write_photos(tmp_path / "photos", splits=("train", "val", "test"), per_class=6)
    next((photos / "train").rglob("*.jpg")).write_bytes(b"")
    code, _, err = cli(
        "train", recipe, f"data.name={photos}", "data.max_bad_share=0.2", "train.effective_batch_size=18"
    )
    assert code == 0, err
    plan = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["plan"]
    assert plan["effective_batch"]["value"] == 17


def test_the_image_to_predict_is_named_where_it_cannot_be_read(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("train", recipe, "train.epochs=1")[0] == 0
    (tmp_path / "bad.jpg").write_text("no")
    assert f"{tmp_path / 'bad.jpg'} cannot be read as an image" in refused(
        cli("predict", tmp_path / "run", tmp_path / "bad.jpg")
    )
    assert "none.jpg cannot be read: No such file" in refused(cli("predict", tmp_path / "run", tmp_path / "none.jpg"))


def test_a_result_that_is_damaged_or_on_another_base_is_refused(
    recipe: Path, tmp_path: Path, photos: Path, cli: Cli
) -> None:
    from tests.training.rows import save_tiny_vit

    image = next(photos.rglob("*.jpg"))
    assert "does not exist" in refused(cli("predict", tmp_path / "nothing", image))
    assert cli("train", recipe, "train.epochs=1")[0] == 0
    other = save_tiny_vit(tmp_path / "other", classes=7)
    assert "was trained on other weights" in refused(cli("predict", tmp_path / "run", image, "--base", other))
    weights = tmp_path / "run" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "is damaged" in refused(cli("predict", tmp_path / "run", image))


def test_a_full_disk_is_said(recipe: Path, tmp_path: Path) -> None:
    """A file-size limit is a disk that is full after 20 kB, for this process and its children."""
    resource = pytest.importorskip("resource")
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "from hf_finetune.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    assert resource
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(recipe), "train.epochs=1"], capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "could not be written to" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_quantized_cnn_is_refused_with_the_reason(recipe: Path, tmp_path: Path, cli: Cli) -> None:
    cnn = timm_model(tmp_path, "timm/test_resnet", architecture="test_resnet")
    err = refused(cli("train", recipe, f"model.name={cnn}", "quantization.kind=int8"))
    assert "converts Linear layers only" in err


def test_the_plan_names_the_layers_whose_widths_nf4_does_not_take(recipe: Path, cli: Cli) -> None:
    code, _, err = cli("plan", recipe, "model.name=builtin:starter", "quantization.kind=nf4")
    assert code == 0
    assert (
        "quantization.kind: nf4 leaves 30 of 36 Linear layers (66.7% of their weights) in floating point: 30 "
        "(vit.layers.*.attention.q_proj, vit.layers.*.attention.k_proj, vit.layers.*.attention.v_proj, "
        "vit.layers.*.attention.o_proj, vit.layers.*.mlp.fc1): nf4 takes input widths that are multiples of 64 and "
        "output widths of 32 everywhere."
    ) in err
