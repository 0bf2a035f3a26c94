"""What a run began with, so that it goes on with nothing else: its data, its base's weights, the adapter that it starts
from, and what the program brought of its own.

Kept in plan.json and again in the seal of every checkpoint: a plan that was lost or cut must not hide that the data
are others now. Owns that record and the words of a refusal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hf_finetune.errors import RunFolderError
from hf_finetune.files.whole_file import write_whole
from hf_finetune.run.checkpoints import sealed_with
from hf_finetune.run.folder import WAYS_ON, RunFolder, plan_as_dict
from hf_finetune.types import Index, Plan

_ANEW = f"Choose another output.dir. Or: {WAYS_ON} (in a recipe: output.existing)."


@dataclass(frozen=True)
class Began:
    """`data_revision` of the index; `start`: digest of the adapter's files (None: it starts from none); `extensions`:
    names and digests; `base`: the fingerprint of the base's weights, once they were read; `at_s`: when, as
    `time.time()` counts (0: not known)."""

    data_revision: str
    start: str | None = None
    extensions: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    at_s: float = 0.0


def began_with(folder: RunFolder) -> Began | None:
    """What the run in `folder` began with; None where nothing was trained yet."""
    if not folder.holds_work():
        return None
    for content in (_of_plan(folder), sealed_with(folder.checkpoints), _of_report(folder)):
        if isinstance(content, Mapping) and isinstance(content.get("data_revision"), str):
            return Began(**{each.name: content[each.name] for each in fields(Began) if each.name in content})
    return None


def write_plan(folder: RunFolder, plan: Plan, began: Began) -> None:
    """plan.json: every decision with its reason; and what it is for. Raises OSError."""
    content = {**plan_as_dict(plan), **asdict(began)}
    write_whole(folder.plan, json.dumps(content, indent=1, ensure_ascii=False))


def refuse_changed_data(folder: RunFolder, index: Index) -> None:
    """Raise RunFolderError where the run began on other data than are there now."""
    before = began_with(folder)
    if before is not None and before.data_revision != index.revision:
        raise _changed(folder, f"files, labels or times of {index.source} have changed since")


def refuse_changed_images(folder: RunFolder, changed_s: float) -> None:
    """Raise RunFolderError where images became others at `changed_s`, after the run had begun, though their files have
    the same size and time."""
    before = began_with(folder)
    if before is not None and 0 < before.at_s < changed_s:
        raise _changed(folder, "images are others now, though their files have the same size and time")


def _changed(folder: RunFolder, how: str) -> RunFolderError:
    return RunFolderError(f"output.dir: the run in {folder.path} began on other data: {how}.", _ANEW)


def refuse_changed_start(folder: RunFolder, digest: str | None) -> None:
    """Raise RunFolderError where an unfinished run began on another adapter than `adapter.from` names now.

    `digest` is that of the adapter's files; a branch of the Hub or a folder may have moved on.
    """
    before = began_with(folder)
    if before is not None and before.start != digest:
        raise RunFolderError(
            f"output.dir: the unfinished run in {folder.path} began on another state of the adapter that adapter.from "
            "names.",
            "Choose another output.dir, name that commit (adapter.from=user/adapter@commit), or remove that folder.",
        )


def settle_base(folder: RunFolder, plan: Plan, began: Began, name: str) -> Began:
    """With the fingerprint `began.base`, of weights that were read now, write it down; raise RunFolderError where the
    run has checkpoints of another base. `name` is the model's."""
    before = began_with(folder)
    if before is not None and before.base not in (None, began.base) and sealed_with(folder.checkpoints) is not None:
        raise RunFolderError(
            f"output.dir: the unfinished run in {folder.path} began on other weights of {name} than are there now.",
            f"Bring those back (of the Hub: model.revision). Or: {WAYS_ON} (in a recipe: output.existing).",
        )
    write_plan(folder, plan, began)
    return began


def refuse_other_extensions(folder: RunFolder, extensions: Mapping[str, Any]) -> None:
    """Raise RunFolderError where the run began with another loss, callbacks or transform of the caller's.

    Metrics change no training: other ones are refused of a finished run alone, which does not have them.
    """
    before = began_with(folder)
    if before is None:
        return
    different = [
        f"{kind}= ({before.extensions.get(kind)}, now {extensions.get(kind)})"
        for kind in sorted({*before.extensions, *extensions})
        if before.extensions.get(kind) != extensions.get(kind) and (kind != "metrics" or folder.is_finished())
    ]
    if different:
        raise RunFolderError(
            f"output.dir: the run in {folder.path} began with others of the program's own: {', '.join(different)}.",
            "Hand over the same as then, choose another output.dir, or remove that folder.",
        )


def _of_plan(folder: RunFolder) -> Any:
    try:
        return json.loads(folder.plan.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # not there, or cut off
        return None


def _of_report(folder: RunFolder) -> Any:
    """A finished run says its data in run.json, too."""
    try:
        content = json.loads(folder.report.read_text(encoding="utf-8"))
        return {"data_revision": content["data"]["revision"], "extensions": content["extensions"]}
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
