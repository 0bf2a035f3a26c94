"""The command line: one module per verb, each with `add_arguments` and `run`. Light: heavy imports are in `run`.

Exit codes: 0 done, 1 a bug of ours, 2 a mistake or limit that the message explains, 130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from hf_finetune.cli import check, env, evaluate, export, lr_find, plan, predict, push, rank, recipes, train
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
    "recipes": recipes,
    "env": env,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser with every verb."""
    parser = argparse.ArgumentParser(prog="hf-finetune", description="Fine-tune image models on small machines.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, module in VERBS.items():
        summary = (module.__doc__ or "").strip().split("\n")[0]
        verb = verbs.add_parser(name, help=summary, description=summary)
        module.add_arguments(verb)
        verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = build_parser().parse_args(arguments)
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
    configure_logging(options.debug)
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
        print(f"\nhf-finetune: {done}; the same command goes on with the run.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # `hf-finetune … | head`: nobody reads on
        return 0
