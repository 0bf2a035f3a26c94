"""What was meant by a verb or an option that there is not."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Sequence
from pathlib import Path

# What other tools call it.
_OTHERS = {
    "train": "fit finetune fine-tune run resume learn",
    "evaluate": "eval test score validate val",
    "predict": "infer inference classify pred",
    "plan": "dry-run forecast estimate",
    "check": "config verify",
    "export": "merge save convert",
    "push": "upload publish",
    "lr-find": "lrfind lr_find lr-finder find-lr lr",
    "rank": "compare-models benchmark",
    "doctor": "lint inspect diagnose duplicates find-duplicates clean-data",
    "fix": "correct relabel refit teach unlearn suggest label",
    "report": "page html show",
    "recipes": "recipe list examples templates ls",
    "env": "info environment versions",
    "cache": "clean clear-cache",
    "docs": "doc man manual cookbook howto how-to",
}


def meant_verb(arguments: Sequence[str], verbs: Collection[str]) -> str | None:
    """What to say where the first word is no verb; None where it is one, or there is none."""
    written = next((each for each in arguments if not each.startswith("-")), None)
    if written is None or written in verbs or any(each in ("--version", "-h", "--help") for each in arguments):
        return None
    said = f"there is no verb {written!r}"
    if Path(written).exists() or written.endswith((".yaml", ".yml")) or "=" in written:
        return f"{said}; did you mean `hf-finetune train {written}`?"
    folded = written.lower().replace("_", "-")
    named = [verb for verb, others in _OTHERS.items() if verb in verbs and folded in others.split()]
    if close := named or difflib.get_close_matches(folded, list(verbs), n=1, cutoff=0.6):
        return f"{said}; did you mean {close[0]}?"
    return f"{said}; there are {', '.join(verbs)}"


def meant_option(rest: Sequence[str], options: argparse.Namespace) -> str:
    """`; did you mean …?` for an option of another tool (`--lr 3e-4`) or a misspelt one of ours, else nothing."""
    written = next((each for each in rest if each.startswith("-")), None)
    if written is None:
        return ""
    known = [f"--{name.replace('_', '-')}" for name in vars(options) if name not in ("verb", "recipe", "overrides")]
    if close := difflib.get_close_matches(written.partition("=")[0], known, n=1, cutoff=0.7):
        return f"; did you mean {close[0]}?"
    if not hasattr(options, "overrides"):
        return ""
    from hf_finetune.recipe.recipe import Recipe
    from hf_finetune.recipe.suggest import option_as_key

    key = option_as_key(written, Recipe)
    value = written.partition("=")[2]
    after = rest[rest.index(written) + 1 :]
    words = [*after, getattr(options, "recipe", None) or ""]
    value = value or next((each for each in words if each and not each.startswith("-")), "…")
    return f"; did you mean {key}={value}, without --?" if key else ""
