"""The command line: one module per verb, each with `add_arguments` and `run`. Light: heavy imports are in `run`.

Exit codes are those of `EXIT_CODES`. With `--json` a verb prints one document by document.py, and nothing else.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import NoReturn

from hf_finetune import __version__
from hf_finetune.cli.document import documents_only, print_error
from hf_finetune.cli.meant import meant_option, meant_verb
from hf_finetune.cli.plain import say
from hf_finetune.cli.verbs import (
    cache,
    check,
    compare,
    demo,
    docs,
    doctor,
    env,
    evaluate,
    export,
    fix,
    lr_find,
    plan,
    predict,
    push,
    rank,
    recipes,
    report,
    train,
)
from hf_finetune.errors import FinetuneError, NothingBegunError
from hf_finetune.machine.interruption import exit_code

VERBS = {
    "train": train,
    "plan": plan,
    "check": check,
    "evaluate": evaluate,
    "predict": predict,
    "demo": demo,
    "push": push,
    "export": export,
    "lr-find": lr_find,
    "rank": rank,
    "doctor": doctor,
    "fix": fix,
    "compare": compare,
    "report": report,
    "recipes": recipes,
    "cache": cache,
    "env": env,
    "docs": docs,
}
EXIT_CODES = {
    0: "done",
    1: "a bug of ours: a traceback is shown",
    2: "a mistake or a limit, which the message explains",
    75: "another process is gone, or a scheduler ended the run: the same command goes on",
    130: "interrupted",
}
_FOR_PROGRAMS = (
    "With --json every verb prints one JSON document on standard output (predict: one a line) and all else on standard "
    'error; of a command that failed {"error": {"kind", "message", "hint"}}. `hf-finetune docs` prints the cookbook.'
)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments as JSON too, where they ask for JSON."""

    arguments: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        if "--json" in _Parser.arguments:
            with documents_only():
                print_error("UsageError", message, f"{self.prog} --help")
        super().error(message)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in EXIT_CODES.items())
    rest = textwrap.fill(_FOR_PROGRAMS, max(40, shutil.get_terminal_size().columns - 2))
    parser = _Parser(
        prog="hf-finetune",
        description="Fine-tune image models on small machines.",
        epilog=f"exit codes:\n{codes}\n\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document, and errors as one")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress, no notes; warnings and results stay")
    parser.add_argument("--version", action="version", version=f"hf-finetune {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in VERBS.items():
        summary = (module.__doc__ or "").strip().split("\n")[0]
        verb = verbs.add_parser(name, help=summary, description=summary)
        module.add_arguments(verb)
        what = getattr(module, "JSON", "print one JSON document")
        verb.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=what)
        for switch in (["--debug"], ["--quiet", "-q"]):  # they may stand behind the verb, too
            verb.add_argument(*switch, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; overrides may stand behind them, where argparse by itself would not know them any more."""
    parser = build_parser()
    _Parser.arguments = arguments = sys.argv[1:] if arguments is None else list(arguments)
    if meant := meant_verb(arguments, VERBS):
        parser.error(meant)
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(each.startswith("-") or "=" not in each for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}{meant_option(rest, options)}")
    if rest:
        options.overrides = [*options.overrides, *rest]
    options.arguments = arguments
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
    with documents_only() if options.json else nullcontext():
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Run the verb, and say of an error what it means for a person and, with `--json`, for a program."""
    document = partial(print_error, line=options.verb == "predict")
    first = os.environ.get("RANK", "0") == "0"  # the others end by the same error, or another
    options.json = options.json and first
    try:
        return VERBS[options.verb].run(options)
    except FinetuneError as error:
        if options.json:
            document(type(error).__name__, error.message, error.hint)
        if options.debug:
            raise
        say(f"hf-finetune: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as interruption:
        done = str(interruption) or "interrupted"
        command = (
            "the same command, without --overwrite," if getattr(options, "overwrite", False) else "the same command"
        )
        begun = options.verb in ("train", "push") and not isinstance(interruption, NothingBegunError)
        goes_on = f"; {command} goes on with the run" if begun else ""
        if options.json:
            document("Interrupted", done, goes_on.removeprefix("; "))
        if options.debug:
            raise
        if first:  # all of them end by one interruption
            say(f"\nhf-finetune: {done}{goes_on}.", file=sys.stderr)
        return exit_code()
    except PermissionError as error:  # before Python 3.14 even asking whether a path exists raises it
        message = f"{error.filename or error} may not be read or written by this user."
        hint = "Give another place, or ask for access."
        if options.json:
            document("PermissionError", message, hint)
        if options.debug:
            raise
        say(f"hf-finetune: {message}\n  {hint}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # `hf-finetune … | head`: nobody reads on
        return 0
    except Exception as error:
        if options.json:
            document(type(error).__name__, str(error), "This is a bug: please report it, with its traceback.")
        raise
