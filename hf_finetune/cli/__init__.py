"""The command line: one module per verb, each with `add_arguments` and `run`. Light: heavy imports are in `run`.

Exit codes: 0 done, 1 a bug of ours, 2 a mistake or limit that the message explains, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from hf_finetune import __version__
from hf_finetune.cli import (
    cache,
    check,
    compare,
    doctor,
    env,
    evaluate,
    export,
    lr_find,
    plan,
    predict,
    push,
    rank,
    recipes,
    report,
    train,
)
from hf_finetune.cli.meant import meant_option, meant_verb
from hf_finetune.errors import FinetuneError

VERBS = {
    "train": train,
    "plan": plan,
    "check": check,
    "evaluate": evaluate,
    "predict": predict,
    "push": push,
    "export": export,
    "lr-find": lr_find,
    "rank": rank,
    "doctor": doctor,
    "compare": compare,
    "report": report,
    "recipes": recipes,
    "cache": cache,
    "env": env,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    parser = argparse.ArgumentParser(prog="hf-finetune", description="Fine-tune image models on small machines.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress, no notes; warnings and results stay")
    parser.add_argument("--version", action="version", version=f"hf-finetune {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in VERBS.items():
        summary = (module.__doc__ or "").strip().split("\n")[0]
        verb = verbs.add_parser(name, help=summary, description=summary)
        module.add_arguments(verb)
        for switch in (["--debug"], ["--quiet", "-q"]):  # they may stand behind the verb, too
            verb.add_argument(*switch, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; overrides may stand behind them, where argparse by itself would not know them any more."""
    parser = build_parser()
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if meant := meant_verb(arguments, VERBS):
        parser.error(meant)
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(each.startswith("-") or "=" not in each for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}{meant_option(rest, options)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = _parse(arguments)
    # Before torch loads OpenMP: threads that wait must not spin. With one other busy process on two cores, spinning
    # made an update four times slower (9.6 against 2.2 s, LoRA on ViT-Tiny, AMD EPYC, 2026-11-23).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Before bitsandbytes (through PEFT) is imported: its torch.compile decorators then import no compiler, which takes
    # 1.1 of the 6.2 s of `import peft` (AMD EPYC, 2026-11-24). Nothing here is compiled.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    from hf_finetune.cli.log import configure_logging

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a Windows pipe speaks cp1252, which has no √ or ≤
    configure_logging(options.debug, options.quiet)
    try:
        return VERBS[options.verb].run(options)
    except FinetuneError as error:
        if options.debug:
            raise
        print(f"hf-finetune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interruption:
        if options.debug:
            raise
        done = str(interruption) or "interrupted"
        command = (
            "the same command, without --overwrite," if getattr(options, "overwrite", False) else "the same command"
        )
        goes_on = f"; {command} goes on with the run" if options.verb in ("train", "push") else ""
        print(f"\nhf-finetune: {done}{goes_on}.", file=sys.stderr)
        return 130
    except PermissionError as error:  # before Python 3.14 even asking whether a path exists raises it
        if options.debug:
            raise
        print(f"hf-finetune: {error.filename or error} may not be read or written by this user.", file=sys.stderr)
        print("  Give another place, or ask for access.", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # `hf-finetune … | head`: nobody reads on
        return 0
