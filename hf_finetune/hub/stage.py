"""A clean folder with what is published of a run: copied by allowlist, checked to be what the run wrote, made portable.

Portable: the base is named by Hub id and commit (or travels along), the card and the recipe are written anew without
what only concerns this machine. Uploads nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.errors import AdapterError, HubError
from hf_finetune.hub.leaks import find_leaks
from hf_finetune.report.fields import RunReport
from hf_finetune.result.files import CARD, published, sha256_of
from hf_finetune.result.manifest import Manifest, read_manifest, write_manifest
from hf_finetune.run.folder import RunFolder

if TYPE_CHECKING:
    from hf_finetune.backbones.config import Model

_MOST_LEAKS = 10


@dataclass(frozen=True)
class FinishedRun:
    """A run with a result: its folder, its report, and its adapter/ or model/ folder."""

    folder: RunFolder
    report: RunReport
    result: Path

    @property
    def whole(self) -> bool:
        """True where the result is a whole model and not an adapter."""
        return self.report.whole


def finished_run(place: Path) -> FinishedRun:
    """The run in a folder, or around a result's folder. Raises AdapterError where none is, or it is unfinished."""
    from hf_finetune.report.run_json import as_run_report, read_report

    folder = RunFolder(place.absolute().parent if _is_result(place) else place)
    if not folder.is_finished():
        if folder.recipe.is_file():
            raise AdapterError(
                f"{folder.path}: a finished run is expected, found an unfinished one.",
                f"Finish it with `hf-finetune train {folder.recipe}`.",
            )
        what = "there is no such folder" if not place.exists() else "it holds no run of hf-finetune"
        raise AdapterError(f"{place}: a run folder is expected, but {what}.", "Give the run's output.dir.")
    report = as_run_report(read_report(folder.report))
    return FinishedRun(folder, report, folder.result(whole=report.whole))


def _is_result(place: Path) -> bool:
    return (place / "hf_finetune.json").is_file()


def local_base(model: str) -> HubError:
    """The refusal of an adapter whose base others cannot have."""
    return HubError(
        f"model.name: {model} is a folder of this machine; nobody else could load an adapter for it",
        "upload it (`hf upload USER/BASE FOLDER`) and push with `hf-finetune push RUN --base USER/BASE`, "
        "or name a Hub model in the recipe",
    )


def stage_run(run: FinishedRun, into: Path, repo: str, base: Model | None = None) -> Manifest:
    """Fill the empty folder `into` with what is published; returns the manifest written there.

    `base` names the Hub model that holds the same weights as the local folder that was trained on; of an adapter, that
    is seen when it is loaded. Raises AdapterError where the result is not what the run wrote, HubError where others
    could not have the base.
    """
    from hf_finetune.result.load import check_base

    _copy(run, into)
    report, manifest = run.report, read_manifest(run.result)
    if base is not None:
        commit = _commit_of(base)
        if run.whole:  # loading an adapter compares its base with what it was trained on; a whole model needs no base
            check_base(base, manifest)
        report = replace(report, model={**report.model, "name": base.name, "commit": commit, "builtin": False})
        manifest = replace(manifest, base=base.name, revision=commit)
    elif not run.whole and not report.model["builtin"] and report.model["commit"] is None:
        raise local_base(manifest.base)
    describe(into, report, manifest, repo, merged=False)
    return manifest


def describe(into: Path, report: RunReport, manifest: Manifest, repo: str, *, merged: bool) -> None:
    """Write what says what the folder's weights are: manifest, adapter_config's base, recipe, metrics, card."""
    import yaml

    from hf_finetune.report.card import model_card
    from hf_finetune.report.references import base_name, shared_recipe

    if manifest.whole and not manifest.brings_base:
        manifest = replace(manifest, base=base_name(report))  # its base is a fact of its history, not needed to load it
    shared = shared_recipe(report)
    if not merged:
        manifest = replace(manifest, adapter=shared["adapter"])  # `from` may be a folder of this machine
    write_manifest(into, manifest)
    adapter_config = into / "adapter_config.json"
    if adapter_config.is_file():
        config = json.loads(adapter_config.read_text(encoding="utf-8"))
        base = "base" if manifest.brings_base else manifest.base
        config |= {"base_model_name_or_path": base, "revision": manifest.revision}
        adapter_config.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
    recipe = yaml.safe_dump(shared, sort_keys=False, allow_unicode=True)
    (into / "recipe.yaml").write_text(recipe, encoding="utf-8")
    metrics = {"validation": dict(report.validation), "test": dict(report.test)}
    (into / "metrics.json").write_text(json.dumps(metrics, indent=1, ensure_ascii=False), encoding="utf-8")
    (into / CARD).write_text(model_card(report, repo=repo, merged=merged), encoding="utf-8")


def _copy(run: FinishedRun, into: Path) -> None:
    wrote = run.report.files
    there = [name for name in published(run.result) if name != CARD]
    missing = sorted(set(wrote) - set(there))
    strange = sorted(set(there) - set(wrote))
    for name in there:
        if name in wrote:
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.result / name, into / name)
    changed = [name for name in there if name in wrote and sha256_of(into / name) != wrote[name]]
    for what, names in (("lost", missing), ("changed since", changed), ("not of this run", strange)):
        if names:
            raise AdapterError(
                f"{run.result}: the files that the run wrote are expected; {what}: {', '.join(names)}.",
                "Put them back (or take the strange ones away); the run's hashes are in run.json, `files`.",
            )


def _commit_of(base: Model) -> str:
    """The Hub commit of `base`."""
    from hf_finetune.backbones.checkpoint import find

    source = find(base)
    if source.commit is None:
        raise HubError(f"--base: a model of the Hub is expected, found {base.name!r}", "upload the base first")
    return source.commit


def refuse_leaks(into: Path, *, secrets: Sequence[str], places: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise HubError, naming file and line, where the folder holds what must not leave this machine."""
    found = find_leaks(into, secrets=secrets, places=places, allowed=allowed)
    if found:
        shown = "\n    ".join(str(leak) for leak in found[:_MOST_LEAKS])
        more = f"\n    and {len(found) - _MOST_LEAKS} more" if len(found) > _MOST_LEAKS else ""
        raise HubError(
            f"Nothing was pushed: the result holds what should not be published:\n    {shown}{more}",
            "If one of them is meant to be there (a class name, say), allow it by its text: `--allow TEXT`.",
        )
