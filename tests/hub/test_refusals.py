"""What a push refuses, in words, with nothing sent; and what a user does about it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.photos import write_photos
from tests.hub.world import REPO, World, recipe
from tests.hub_server.fixture import Hub
from tests.hub_server.server import running
from tests.hub_server.users import READ_TOKEN, TOKEN
from tests.training.rows import save_tiny_vit

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Trained:
    """A run on a Hub base (`run`), on a local copy of it (`local`), with an e-mail for a class (`mail`).

    `whole`: every weight of the local copy trained.
    """

    world: World
    run: Path
    local: Path
    mail: Path
    whole: Path

    def sent(self) -> list[str]:
        """Every request so far that asked the Hub to write."""
        requests = self.world.hub.requests
        return [path for method, path, _ in requests if method in ("PUT", "POST") and "validate" not in path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("world")
    photos = write_photos(folder / "photos")
    shutil.copytree(photos, folder / "mail")
    for split in ("train", "test"):
        (folder / "mail" / split / "1").rename(folder / "mail" / split / "anna@example.org")
    served = folder / "served"
    save_tiny_vit(served / "models" / "org" / "tiny")
    other = save_tiny_vit(served / "models" / "org" / "other", classes=4)  # another head: other weights
    shutil.copytree(served / "models" / "org" / "tiny", folder / "weights")
    assert other.is_dir()
    with running(served) as server, World(Hub(server, served, folder), folder) as world:
        lines = []
        for name, base, data in (
            ("run", "org/tiny", "photos"),
            ("local", folder / "weights", "photos"),
            ("mail", "org/tiny", "mail"),
            ("whole", folder / "weights", "photos"),
        ):
            sections = {"model": {"name": str(base)}, "data": {"name": str(folder / data), "validation_share": 0.2}}
            sections |= {"adapter": {"kind": "full"}} if name == "whole" else {}
            lines.append(["train", recipe(folder, name, sections)])
        for code, _, err in world.commands(*lines):
            assert code == 0, err
        yield Trained(world, *(folder / "runs" / name for name in ("run", "local", "mail", "whole")))


def refused(trained: Trained, *words: object, **options: object) -> str:
    """What one command says that must fail with exit code 2 and send nothing."""
    (err,) = all_refused(trained, words, **options)
    return err


def all_refused(trained: Trained, *lines: Sequence[object], **options: object) -> list[str]:
    """What each of some commands in one process says; all must fail with exit code 2 and send nothing."""
    before = len(trained.sent())
    said = trained.world.commands(*lines, **options)  # pyright: ignore[reportArgumentType]
    for code, out, err in said:
        assert (code, out) == (2, ""), err
        assert "Traceback" not in err
    assert trained.sent()[before:] == []
    return [err for _, _, err in said]


def test_without_a_token_or_with_one_that_only_reads(trained: Trained) -> None:
    push = ["push", trained.run, "--repo", "beans"]
    assert "this machine has none\n  log in with `hf auth login`, or set HF_TOKEN" in refused(
        trained, *push, token=None
    )
    assert "may only read\n  make a token with write access" in refused(trained, *push, token=READ_TOKEN)
    assert "HF_HUB_OFFLINE is set" in refused(trained, *push, offline=True)
    assert "does not accept this machine's token" in refused(trained, *push, token="hf_" + "expired")


def test_training_asks_before_it_spends_minutes(trained: Trained) -> None:
    path = recipe(trained.world.folder, "never", {"model": {"name": "org/tiny"}, "hub": {"repo": "beans"}})
    assert "may only read" in refused(trained, "train", path, token=READ_TOKEN)
    assert "this machine has none" in refused(trained, "train", path, token=None)
    local = ["train", path, f"model.name={trained.world.folder / 'weights'}"]
    assert "is a folder of this machine; nobody else could load an adapter" in refused(trained, *local)
    assert not (trained.world.folder / "runs" / "never").exists()


def test_what_is_no_finished_run(trained: Trained, tmp_path: Path) -> None:
    unfinished = shutil.copytree(trained.run, tmp_path / "unfinished")
    (unfinished / "run.json").unlink()
    said = refused(trained, "push", unfinished, "--repo", "beans")
    assert "a finished run is expected, found an unfinished one" in said
    assert f"hf-finetune train {unfinished / 'recipe.yaml'}" in said
    assert "there is no such folder" in refused(trained, "push", tmp_path / "nothing", "--repo", "beans")
    assert "there is no such folder" in refused(trained, "push", trained.run / "typo", "--repo", "beans")
    assert "it holds no run of hf-finetune" in refused(trained, "push", tmp_path, "--repo", "beans")
    assert "the recipe names none (hub.repo)" in refused(trained, "push", trained.run)
    assert "a Hub repo such as user/name is expected" in refused(trained, "push", trained.run, "--repo", "a/b/c")


def test_files_that_the_run_did_not_write(trained: Trained, tmp_path: Path) -> None:
    run = shutil.copytree(trained.run, tmp_path / "run")
    config = run / "adapter" / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", encoding="utf-8")
    assert "changed since: config.json" in refused(trained, "push", run, "--repo", "beans")
    (run / "adapter" / "model.safetensors").write_bytes(b"x")
    shutil.copy(trained.run / "adapter" / "config.json", config)
    assert "not of this run: model.safetensors" in refused(trained, "push", run, "--repo", "beans")
    (run / "adapter" / "model.safetensors").unlink()
    (run / "adapter" / "adapter_model.safetensors").unlink()
    assert "lost: adapter_model.safetensors" in refused(trained, "push", run, "--repo", "beans")


def test_a_result_that_answers_otherwise_than_the_run_recorded(trained: Trained, tmp_path: Path) -> None:
    import numpy as np

    run = shutil.copytree(trained.run, tmp_path / "run")
    with np.load(run / "held.npz") as held:
        content = dict(held)
    np.savez(run / "held.npz", **{**content, "logits": content["logits"] + 0.01})
    assert "answers differently from the trained model: logits differ by 0.01" in refused(
        trained, "push", run, "--repo", "beans"
    )


def test_a_local_base_is_refused_until_its_hub_copy_is_named(trained: Trained) -> None:
    push = ["push", trained.local, "--repo", "beans-of-local"]
    whole = ["push", trained.whole, "--repo", "whole-of-local"]
    unnamed, *wrong = all_refused(trained, push, [*push, "--base", "org/other"], [*whole, "--base", "org/other"])
    assert "is a folder of this machine; nobody else could load an adapter for it" in unnamed
    assert "--base USER/BASE" in unnamed
    for said in wrong:
        assert "The result was trained on other weights than org/other holds (fingerprint " in said
        assert str(trained.world.folder) not in said  # the copy of the run that was staged in it
    ((code, _, err),) = trained.world.commands([*push, "--base", "org/tiny"])
    assert code == 0, err
    there = trained.world.hub.folder / "models" / "loopback" / "beans-of-local"
    config = json.loads((there / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == "org/tiny"
    assert len(config["revision"]) == 40
    assert "base_model: org/tiny" in (there / "README.md").read_text("utf-8")


def test_what_looks_like_a_leak_is_named_by_file_and_line_until_it_is_allowed(trained: Trained) -> None:
    push = ["push", trained.mail, "--repo", "mail", "--dry-run"]
    said = refused(trained, *push)
    assert "the result holds what should not be published" in said
    assert "config.json line" in said
    assert "an e-mail address, anna@example.org" in said
    ((code, _, err),) = trained.world.commands([*push, "--allow", "anna@example.org"])
    assert code == 0, err


def test_a_push_that_fails_after_training_says_that_the_run_is_safe_and_goes_on(trained: Trained) -> None:
    sections = {
        "model": {"name": "org/tiny"},
        "data": {"name": str(trained.world.folder / "photos"), "validation_share": 0.2},
        "hub": {"repo": "late"},
    }
    trained.world.hub.server.faults.add("403", "/commit/")
    run = trained.world.folder / "runs" / "late"
    train, push = trained.world.commands(["train", recipe(trained.world.folder, "late", sections)], ["push", run])
    assert train[0] == 2
    assert "test accuracy" in train[1]
    assert f"The run is finished and safe in {run}; `hf-finetune push {run}` goes on." in train[2]
    assert push[0] == 0, push[2]
    assert "pushed and compared" in push[1]


def test_a_push_that_was_killed_goes_on_and_leaves_nothing_behind(trained: Trained) -> None:
    hub = trained.world.machine("author")
    hub.server.faults.add("slow", "^PUT ", seconds=3)
    command = [sys.executable, "-m", "hf_finetune", "push", str(trained.run), "--repo", "killed"]
    before = len(hub.server.faults.applied)
    process = subprocess.Popen(command, env=hub.env(token=TOKEN), cwd=REPO, stderr=subprocess.DEVNULL)
    while len(hub.server.faults.applied) == before:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert list(trained.run.glob("push.*"))
    ((code, out, err),) = trained.world.commands(["push", trained.run, "--repo", "killed"])
    assert (code, "pushed and compared" in out) == (0, True), err
    assert not list(trained.run.glob("push.*"))
    there = trained.world.hub.folder / "models" / "loopback" / "killed"
    assert (there / "adapter_model.safetensors").read_bytes() == (
        trained.run / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
