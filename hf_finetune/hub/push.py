"""A finished run to the Hub, top to bottom: stage, search for leaks, gate, upload, compare. Also without uploading.

Nothing in the run folder changes. A push that was cut off is begun again by the same command and goes on: blobs that
arrived are not sent again, and a repo that holds everything is left as it is.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.hub.access import connect, full_name
from hf_finetune.hub.gate import pass_gate, stock_answer
from hf_finetune.hub.refusals import refusal
from hf_finetune.hub.stage import FinishedRun, describe, refuse_leaks, stage_run
from hf_finetune.hub.upload import Uploaded, known_as, upload
from hf_finetune.machine.disk import failed_writes_are_said
from hf_finetune.network.patience import Patience
from hf_finetune.result.files import CARD, local_files
from hf_finetune.run.folder import locked

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from hf_finetune.backbones.config import Model
    from hf_finetune.report.fields import RunReport
    from hf_finetune.result.held_rows import Held
    from hf_finetune.result.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Push:
    """What a person asks for. `repo` may be a name alone; `base` is the Hub copy of a base that was a local folder."""

    repo: str
    private: bool = True
    merged: bool = False
    base: Model | None = None
    allowed: Sequence[str] = ()
    replace_card: bool = False


@dataclass(frozen=True)
class Parcel:
    """A repo's content, staged: name → size in bytes, and the card's text."""

    repo: str
    folder: Path
    sizes: dict[str, int]
    card: str


def push_run(run: FinishedRun, wanted: Push) -> list[Uploaded]:
    """Push a run: one repo, and a second one with the merged model where that was asked for.

    Raises AdapterError, HubError or MachineError with nothing lost here, and no half of a result there.
    """
    api = connect()
    wanted = replace(wanted, repo=_name_today(api, wanted))
    done = []
    with _staged(run, wanted) as parcels:
        for parcel in parcels:
            sent = upload(
                api,
                parcel.folder,
                parcel.repo,
                private=wanted.private,
                title="Upload with hf_finetune",
                replace_card=wanted.replace_card,
            )
            if sent.kept_card:
                logger.warning("The card of %s was edited by hand and is kept (--replace-card writes ours).", sent.repo)
            done.append(sent)
    return done


def dry_run(run: FinishedRun, wanted: Push) -> list[Parcel]:
    """Everything up to the upload; asks nothing of the Hub but what the base model's files need."""
    with _staged(run, wanted) as parcels:
        return parcels


def _name_today(api: HfApi, wanted: Push) -> str:
    """The full name that the card is written for; whatever can be refused is, before the work."""
    import httpx2

    repo = full_name(api, wanted.repo)
    try:
        return known_as(api, repo, wanted.private, Patience()) or repo
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise refusal(error, repo) from error


@contextmanager
def _staged(run: FinishedRun, wanted: Push) -> Iterator[list[Parcel]]:
    """The parcels, gated and searched, in a folder of the run's disk that is removed afterwards."""
    from hf_finetune.report.snippet import stock_snippet
    from hf_finetune.result.held_rows import read_held

    with locked(run.folder), _full_disk_is_said(run), _scratch(run) as scratch:
        into = scratch / "result"
        into.mkdir()
        held = read_held(run.folder.held)
        manifest = stage_run(run, into, wanted.repo, wanted.base)
        report = _report_of(run, manifest)
        _refuse(run, into, wanted)
        logger.info("Checking %s before it leaves: reloading it, here and with stock libraries.", wanted.repo)
        pass_gate(into, manifest, held, stock_snippet(report))
        parcels = [_parcel(wanted.repo, into)]
        if wanted.merged and run.whole:
            logger.info("The result is a whole model already: there is nothing to merge.")
        elif wanted.merged:
            merged_repo = f"{wanted.repo}-merged"
            whole = scratch / "merged"
            merged = _merge(into, whole, manifest, held, stock_snippet(report, merged=True))
            describe(whole, report, merged, merged_repo, merged=True)
            _refuse(run, whole, wanted)
            parcels.append(_parcel(merged_repo, whole))
        yield parcels


@contextmanager
def _scratch(run: FinishedRun) -> Iterator[Path]:
    """A folder on the run's disk; what an earlier push left when it was killed is removed."""
    for left in run.folder.path.glob("push.*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=run.folder.path, prefix="push.") as scratch:
        yield Path(scratch)


def _merge(result: Path, whole: Path, manifest: Manifest, held: Held, snippet: str) -> Manifest:
    """The whole model, and the manifest that says so; the card's lines prove it, in a fresh process."""
    from hf_finetune.result.merge import write_merged

    write_merged(result, whole, pixels=held.pixels, stock=lambda staged: stock_answer(staged, manifest, held, snippet))
    return replace(manifest, adapter={"kind": "full"}, quantization="none", dtype="fp32")


def _report_of(run: FinishedRun, manifest: Manifest) -> RunReport:
    """The run's report with the base named as the manifest names it."""
    if manifest.brings_base or manifest.base == run.report.model["name"]:
        return run.report
    return replace(run.report, model={**run.report.model, "name": manifest.base, "commit": manifest.revision})


def _refuse(run: FinishedRun, folder: Path, wanted: Push) -> None:
    from huggingface_hub import get_token

    own = (run.folder.path.resolve(), Path.cwd(), Path.home())
    places = [str(place) for place in own if place != Path(place.anchor)]  # in a container that may be /
    refuse_leaks(folder, secrets=[token] if (token := get_token()) else [], places=places, allowed=wanted.allowed)


def _parcel(repo: str, folder: Path) -> Parcel:
    sizes = {name: file.size for name, file in local_files(folder).items()}
    return Parcel(repo, folder, sizes, (folder / CARD).read_text(encoding="utf-8"))


def _full_disk_is_said(run: FinishedRun) -> AbstractContextManager[None]:
    hint = "A push needs the result's size twice: free some space and run the same command again."
    return failed_writes_are_said(run.folder.path, hint)
