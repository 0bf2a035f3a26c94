"""Starts the command line in forks of a process that has imported everything: a second each, where a new one takes ten.

    python -m tests.faults.zygote        one JSON request a line on standard input, one JSON answer a line

{"start": {"arguments", "folder", "environment", "output", "disk"}} → {"pid"}; {"wait": pid} → {"code"}. Nothing may
have started a thread before the fork: only imports are done here.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

IMPORTED = (
    "torch",
    "timm",
    "transformers",
    "transformers.trainer",
    "peft",
    "accelerate",
    "datasets",
    "safetensors.torch",
    "hf_finetune.pipeline.train",
    "hf_finetune.pipeline.climb",
    "hf_finetune.ladder.climb",
    "hf_finetune.result.evaluate",
    "hf_finetune.result.load",
    "hf_finetune.cli.process",
)


def main() -> None:
    """Serve until the input ends."""
    for name in IMPORTED:
        importlib.import_module(name)
    said = os.fdopen(os.dup(1), "w")
    said.write("{}\n")
    said.flush()
    for line in sys.stdin:
        request = json.loads(line)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                _become(request["start"])
            answer = {"pid": pid}
        else:
            _, status = os.waitpid(request["wait"], 0)
            answer = {"code": os.waitstatus_to_exitcode(status)}
        said.write(json.dumps(answer) + "\n")
        said.flush()


def _become(asked: dict[str, Any]) -> NoReturn:
    from hf_finetune.cli import process

    os.setsid()
    os.chdir(asked["folder"])
    os.environ.update(asked["environment"])
    output = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, target)
    sys.stdin = os.fdopen(0, "r", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if disk := asked["disk"]:
        os.environ["FAULTS"] = "\t".join(map(str, disk))
        folder, calls, first, count, number, counter = disk
        ctypes.CDLL(None).faults_arm(
            folder.encode(), calls.encode(), ctypes.c_long(first), ctypes.c_long(count), number, counter.encode()
        )
    sys.argv = ["hf-finetune", *asked["arguments"]]
    try:
        process.run()
    except SystemExit as end:
        atexit._run_exitfuncs()  # as the interpreter does: the last of them leaves with the exit code
        os._exit(end.code if isinstance(end.code, int) else 1)
    except Exception:  # noqa: BLE001 - a person would see it, too
        traceback.print_exc()
    os._exit(1)


if __name__ == "__main__":
    main()
