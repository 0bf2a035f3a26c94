"""`train --accelerate NAME`: the same command again, on every process of an accelerate configuration.

Owns which configuration is meant and how the processes' end becomes this command's. What a launch is, accelerate's
launcher decides, which runs in this process; signals that come here reach the others.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from hf_finetune.cli.plain import say
from hf_finetune.errors import MachineError, PeerError, RecipeError

OPTION = "--accelerate"
_EDITED = "multi_node"  # holds an address that only its user knows
SAVING_S = "300"  # a signal's time to save before torch's launcher kills; 30 s by default
_LOUD = (
    "accelerate.commands.launch",
    "torch.distributed.elastic.multiprocessing.api",
    "torch.distributed.elastic.agent.server.api",
)


def launch(name: str, arguments: Sequence[str]) -> int:
    """Run `arguments` without the option on the processes of the configuration; their exit code.

    Raises RecipeError for a configuration that is not there, MachineError where this process is one of several already.
    """
    if "WORLD_SIZE" in os.environ:
        raise MachineError(
            f"{OPTION} starts processes, and this is already one of {os.environ['WORLD_SIZE']} that a launcher has "
            "started (WORLD_SIZE).",
            f"Leave {OPTION} out, or start the command without that launcher.",
        )
    config = _config(name)
    option = argparse.ArgumentParser(add_help=False)
    option.add_argument(OPTION)
    others = option.parse_known_args(list(arguments))[1]
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SAVING_S)
    from accelerate.commands.launch import launch_command, launch_command_parser

    options = launch_command_parser().parse_args(["--config_file", str(config), "-m", "hf_finetune", *others])
    return _end_of(options, launch_command)


def _config(name: str) -> Path:
    """The file that is meant: one that is there, or a shipped one by its name."""
    from hf_finetune.cli.shipped.files import shipped

    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = {each.stem: each for each in sorted(shipped("accelerate_configs").glob("*.yaml"))}
    if name == _EDITED:
        raise RecipeError(
            f"{OPTION} {name}: main_process_ip, num_machines and num_processes are yours to write.",
            f"Copy {known[name]}, write them, give the copy's path, and on every machine but the first its number "
            "(machine_rank).",
        )
    if name not in known:
        raise RecipeError(
            f"{OPTION}: one of {', '.join(known)} is expected, or the path of an accelerate configuration; found "
            f"{name}.",
            "`accelerate config` writes one.",
        )
    return known[name]


def _end_of(options: argparse.Namespace, launch_command: object) -> int:
    """0, or the exit code of the process that ended first by an error."""
    import torch.distributed.launcher.api  # noqa: F401 - sets its loggers' levels as it is imported
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    for name in _LOUD:  # defaults that nobody asked about, and ends, which are said below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with _handing_on():
            launch_command(options)  # pyright: ignore[reportCallIssue]
    except ChildFailedError as error:
        rank, first = error.get_first_failure()
        return _said(rank, first.exitcode)
    except subprocess.CalledProcessError as error:  # a configuration of one process
        return _said(0, error.returncode)
    except SignalException as error:
        from hf_finetune.machine.interruption import code_of

        return code_of(error.sigval)
    except ValueError as error:  # accelerate's word for a configuration that is not one
        raise RecipeError(f"{OPTION}: {error}", "`accelerate config` writes a configuration.") from None
    return 0


def _said(rank: int, code: int) -> int:
    if code >= 0:
        return code  # the process has said why
    say(
        f"hf-finetune: rank {rank} was ended by signal {-code} ({signal.Signals(-code).name}).\n"
        "  The same command goes on from the last whole checkpoint.",
        file=sys.stderr,
    )
    return PeerError.exit_code


@contextmanager
def _handing_on() -> Iterator[None]:
    """For a launch of one process, which accelerate only waits for: hand SIGTERM on. A terminal's Ctrl-C comes to the
    child as it comes here. Of several, torch's launcher installs handlers of its own."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        del frame
        if number != signal.SIGINT:
            import psutil

            for child in psutil.Process().children():
                child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
