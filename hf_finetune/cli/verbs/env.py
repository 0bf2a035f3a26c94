"""Print the machine and the versions, to paste into a bug report."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""
    del parser


def run(options: argparse.Namespace) -> int:
    """Print it. No paths, names or tokens: it is meant to be pasted in public."""
    import shutil
    from dataclasses import asdict
    from importlib.metadata import PackageNotFoundError, version

    from hf_finetune.cli.document import print_document
    from hf_finetune.machine.detect import detect
    from hf_finetune.pipeline.finish import PACKAGES
    from hf_finetune.units import format_bytes

    machine = asdict(detect()) | {"free_disk_bytes": shutil.disk_usage(".").free}
    facts = dict(machine)
    for name in ("hf_finetune", *PACKAGES):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    if options.json:
        print_document(facts)
    else:
        for key, value in facts.items():
            shown = format_bytes(value) if key.endswith("_bytes") else value
            print(f"{key.removesuffix('_bytes'):<16}{shown}")
    return 0
