"""A run folder belongs to one recipe, and says so."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_finetune.errors import MachineError, RunFolderError
from hf_finetune.recipe.recipe import load_recipe
from hf_finetune.run.existing import settle_existing
from hf_finetune.run.folder import RunFolder, claim, full_disk_is_said, locked


def recipe_in(folder: Path, **train: object):
    return load_recipe({"output": {"dir": str(folder)}, "train": train})


def test_the_resolved_recipe_is_there_before_anything_else(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path / "run", epochs=2)
    folder = claim(recipe)
    assert load_recipe(folder.recipe) == recipe
    assert not folder.is_finished()


def test_the_same_recipe_claims_its_folder_again(tmp_path: Path) -> None:
    claim(recipe_in(tmp_path / "run", epochs=2))
    assert claim(recipe_in(tmp_path / "run", epochs=2)).path == tmp_path / "run"


def test_the_recipe_of_an_earlier_version_lacks_the_keys_of_now(tmp_path: Path) -> None:
    folder = claim(recipe_in(tmp_path / "run", epochs=2))
    text = folder.recipe.read_text()
    assert "  peer_timeout: 300s\n" in text
    folder.recipe.write_text(text.replace("  peer_timeout: 300s\n", ""))
    assert claim(recipe_in(tmp_path / "run", epochs=2)).path == tmp_path / "run"
    assert claim(recipe_in(tmp_path / "run", epochs=2, peer_timeout="1m")).path == tmp_path / "run"


def test_where_nothing_was_trained_another_recipe_may_begin(tmp_path: Path) -> None:
    claim(recipe_in(tmp_path / "run", epochs=2))
    folder = claim(recipe_in(tmp_path / "run", epochs=3))
    assert load_recipe(folder.recipe).train.epochs == 3
    with locked(folder), pytest.raises(RunFolderError, match="another process is at work"):
        claim(recipe_in(tmp_path / "run", epochs=4))
    with pytest.raises(RunFolderError, match="holds another run"):  # a rank that looks only
        claim(recipe_in(tmp_path / "run", epochs=4), write=False)
    assert load_recipe(folder.recipe).train.epochs == 3


def test_another_disk_makes_no_other_run(tmp_path: Path) -> None:
    """Where one was full, these keys are the remedy."""
    recipe = recipe_in(tmp_path / "run")
    claim(recipe)
    (tmp_path / "run" / "adapter").mkdir()
    disk = {"cache_dir": str(tmp_path), "download_limit": 10**9, "store_limit": 10**9}
    claim(recipe.model_copy(update={"data": recipe.data.model_copy(update=disk)}))
    with pytest.raises(RunFolderError, match="max_pixels"):
        claim(recipe.model_copy(update={"data": recipe.data.model_copy(update={"max_pixels": 1000})}))


@pytest.mark.parametrize("work", ["adapter", "model", "run.json", "checkpoints/checkpoint-4", "checkpoints/rung-full"])
def test_another_recipe_is_refused_with_what_differs(tmp_path: Path, work: str) -> None:
    claim(recipe_in(tmp_path / "run", epochs=2))
    (tmp_path / "run" / work).mkdir(parents=True)
    with pytest.raises(RunFolderError) as caught:
        claim(recipe_in(tmp_path / "run", epochs=3, seed=1))
    assert str(caught.value) == (
        f"output.dir: {tmp_path / 'run'} holds another run; different there: train.epochs (2.0, now 3.0), "
        "train.seed (0, now 1).\n  Choose another output.dir. Or: --number takes the next free name, --overwrite "
        "begins anew there (in a recipe: output.existing)."
    )


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(RunFolderError, match=r"holds files, but no run of hf-finetune\."):
        claim(recipe_in(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunFolderError, match="is a file; a folder is expected"):
        claim(recipe_in(tmp_path / "run"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot be written"):
        claim(recipe_in(tmp_path / "file" / "run"))


def test_a_start_that_a_full_disk_refused_is_refused_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hf_finetune.run.folder.LEAST_FREE_BYTES", 10**18)
    for _ in range(2):
        with pytest.raises(MachineError, match="MB are free at"):
            claim(recipe_in(tmp_path / "run"))


def test_a_recipe_in_the_folder_that_is_no_text_is_said(tmp_path: Path) -> None:
    folder = claim(recipe_in(tmp_path / "run"))
    folder.recipe.write_bytes(folder.recipe.read_bytes() + b"# \xff\n")
    with pytest.raises(RunFolderError, match=r"recipe\.yaml cannot be read: 'utf-8' codec"):
        claim(recipe_in(tmp_path / "run"))


def test_a_disk_that_can_only_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = claim(recipe_in(tmp_path / "run"))

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)  # root, who may run this, may write everywhere
    with pytest.raises(RunFolderError, match="cannot be written: Read-only file system"), locked(folder):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="Permission denied"):
        claim(recipe_in(tmp_path / "run"))


@pytest.mark.e2e
def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    folder = claim(recipe_in(tmp_path / "run"))
    code = (
        "import sys; from hf_finetune.recipe.recipe import load_recipe\n"
        "from hf_finetune.run.folder import claim, locked\n"
        "from hf_finetune.errors import RunFolderError\n"
        "try:\n"
        "    with locked(claim(load_recipe({'output': {'dir': sys.argv[1]}}))): pass\n"
        "except RunFolderError as error: print(error)\n"
    )
    with locked(folder):
        inside = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True)
    after = subprocess.run([sys.executable, "-c", code, str(folder.path)], capture_output=True, text=True)
    assert "another process is at work in" in inside.stdout
    assert (after.stdout, after.returncode) == ("", 0)


def test_a_write_that_fails_is_said_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"output\.dir: .* could not be written to: \[Errno 28\]"):  # noqa: SIM117
        with full_disk_is_said(RunFolder(tmp_path)):
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "reset"), OSError("image file is truncated"), RuntimeError("CUDA error")]
)
def test_what_is_no_failed_write_is_not_called_one(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, full_disk_is_said(RunFolder(tmp_path)):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("existing", ["resume", "overwrite", "extend"])
def test_a_result_is_no_run_folder(tmp_path: Path, existing: str) -> None:
    result = tmp_path / "run" / "adapter"
    result.mkdir(parents=True)
    for name in ("hf_finetune.json", "recipe.yaml"):
        (result / name).write_text("{}")
    recipe = recipe_in(result, epochs=2)
    output = recipe.output.model_copy(update={"existing": existing})
    with pytest.raises(RunFolderError, match=r"is the result of a run .*\n.*the folder above it is the run's"):
        settle_existing(recipe.model_copy(update={"output": output}), 1)
    with pytest.raises(RunFolderError, match="is the result of a run"):
        claim(recipe)
    assert (result / "recipe.yaml").read_text() == "{}"


def test_an_emptied_recipe_is_said(tmp_path: Path) -> None:
    folder = claim(recipe_in(tmp_path / "run", epochs=2))
    folder.recipe.write_text("")
    with pytest.raises(RunFolderError, match=r"recipe\.yaml cannot be read: it is empty, or no recipe"):
        claim(recipe_in(tmp_path / "run", epochs=2))
