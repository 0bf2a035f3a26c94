"""Show a finished run, a saved adapter, or one on the Hub, on a page of this machine to which one gives pictures."""

from __future__ import annotations

import argparse

from hf_finetune.cli.plain import say

PORT = 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESULT [--port N] [--host H] [--revision R] [--base MODEL] [--max-pixels N]"""
    parser.add_argument("result", help="run folder, its adapter/ or model/ folder, or a Hub repo (user/name)")
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"default: {PORT}, or the next one up to {PORT + 9} that is free"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to answer at; the default, 127.0.0.1, is reached from this machine alone, 0.0.0.0 from any",
    )
    parser.add_argument("--revision", help="branch, tag or commit of a Hub repo")
    parser.add_argument("--base", help="the base model, where it has moved")
    parser.add_argument("--max-pixels", type=int, help="refuse larger images; default: the run's data.max_pixels")


def run(options: argparse.Namespace) -> int:
    """Answer until Ctrl-C, which is how a demo ends: the exit code is then 0."""
    from hf_finetune.cli.document import print_document
    from hf_finetune.pipeline.demo.demo import Asked, demo

    ports = range(PORT, PORT + 10) if options.port is None else (options.port,)
    asked = Asked(
        options.result,
        host=options.host,
        ports=tuple(ports),
        revision=options.revision,
        base=options.base,
        max_pixels=options.max_pixels,
    )
    with demo(asked) as served:
        if options.json:
            print_document({"address": served.address}, line=True)
        else:
            say(f"{served.address} shows {options.result}. Ctrl-C ends it.", flush=True)
        served.until_interrupted()
    return 0
