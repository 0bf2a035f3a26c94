"""Push a finished run to the Hub; the same command goes on after an interruption."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.cli.plain import say

if TYPE_CHECKING:
    from hf_finetune.backbones.config import Model
    from hf_finetune.hub.push import Parcel
    from hf_finetune.hub.upload import Uploaded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RUN [--repo USER/NAME] [--public] [--merged] [--base USER/BASE[@REV]] [--dry-run] [--allow TEXT] …"""
    parser.add_argument("run", help="run folder, or its adapter/ or model/ folder")
    parser.add_argument("--repo", help="user/name, or a name in your own account (default: the recipe's hub.repo)")
    parser.add_argument(
        "--public", action="store_true", help="a new repo is public (default: the recipe's hub.private)"
    )
    parser.add_argument("--merged", action="store_true", help="push the whole merged model too, to REPO-merged")
    parser.add_argument("--base", metavar="USER/BASE", help="Hub copy of a base model that was a local folder")
    parser.add_argument("--dry-run", action="store_true", help="do everything but the upload; show files and card")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="TEXT", help="let a text pass that looks like a leak"
    )
    parser.add_argument("--replace-card", action="store_true", help="overwrite a card that was edited on the Hub")


def run(options: argparse.Namespace) -> int:
    """Push, and print where it is; or print what would be pushed."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.errors import HubError, RecipeError
    from hf_finetune.hub.push import Push, dry_run, push_run
    from hf_finetune.hub.stage import finished_run
    from hf_finetune.recipe.hub import check_repo

    finished = finished_run(Path(options.run))
    hub = finished.report.recipe.get("hub") or {}
    repo = options.repo or hub.get("repo")
    if repo is None:
        raise HubError(
            "A repo to push to is expected; the recipe names none (hub.repo).", "Give one with `--repo USER/NAME`."
        )
    try:
        check_repo(repo)
    except ValueError as error:
        raise RecipeError(f"--repo: {error}", "for example --repo anna/beans") from None
    wanted = Push(
        repo=repo,
        private=not options.public and hub.get("private", True),
        merged=options.merged or hub.get("merged", False),
        base=_base(options.base),
        allowed=options.allow,
        replace_card=options.replace_card,
    )
    if options.dry_run:
        parcels = dry_run(finished, wanted)
        if options.json:
            print_document({"would_push": [_as_dict(parcel, private=wanted.private) for parcel in parcels]})
        else:
            _show(parcels, private=wanted.private)
        return 0
    pushed = push_run(finished, wanted)
    if options.json:
        print_document({"pushed": [uploaded_as_dict(done) for done in pushed]})
    else:
        for done in pushed:
            say(render_uploaded(done))
    return 0


def _base(written: str | None) -> Model | None:
    from hf_finetune.backbones.config import Model

    if written is None:
        return None
    name, _, revision = written.partition("@")
    return Model(name=name, revision=revision or None)


def render_uploaded(done: Uploaded) -> str:
    """One line: where it is."""
    from huggingface_hub import constants

    what = "pushed and compared" if done.changed else "nothing to do, it is there already"
    return f"{constants.ENDPOINT}/{done.repo} at {done.commit[:12]}: {what}"


def uploaded_as_dict(done: Uploaded) -> dict[str, Any]:
    """The same for a program. `changed`: False where the repo held all of it already."""
    from huggingface_hub import constants

    url = f"{constants.ENDPOINT}/{done.repo}"
    return {"repo": done.repo, "url": url, "commit": done.commit, "changed": done.changed, "kept_card": done.kept_card}


def _as_dict(parcel: Parcel, *, private: bool) -> dict[str, Any]:
    files = [{"name": name, "bytes": size} for name, size in parcel.sizes.items()]
    return {"repo": parcel.repo, "private_if_new": private, "files": files, "card": parcel.card}


def _show(parcels: Sequence[Parcel], *, private: bool) -> None:
    from hf_finetune.units import format_bytes

    for parcel in parcels:
        say(f"{parcel.repo} ({'private' if private else 'public'} if it is new)")
        for name, size in parcel.sizes.items():
            say(f"  {format_bytes(size):>8}  {name}")
        say(f"\n{parcel.card}")
