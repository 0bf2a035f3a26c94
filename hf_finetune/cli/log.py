"""Logging for the command line: our messages as plain lines on rank 0, other libraries' warnings only."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TextIO

from hf_finetune.files.visible import visible


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is by then: `main` may be called by a program that redirects it, and later closes it.

    A handler that kept the stream of its first day would print "I/O operation on closed file" for every later message.
    """

    def emit(self, record: logging.LogRecord) -> None:
        from hf_finetune.report.progress import aside

        self.stream = sys.stderr
        with aside():
            super().emit(record)


class _Visible(logging.Formatter):
    """Messages hold names of others, which must not steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def configure_logging(debug: bool, quiet: bool = False) -> None:
    """Our loggers speak on stderr at INFO (DEBUG with --debug), on rank 0 only; others at WARNING.

    With `quiet` warnings and errors are all that is said, and no progress is shown.
    """
    from hf_finetune.report.progress import hush

    hush(quiet)
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    handler = _StandardError()
    handler.setFormatter(_Visible("%(message)s"))
    ours = logging.getLogger("hf_finetune")
    ours.handlers = [handler]
    ours.propagate = False
    ours.setLevel(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO)
    if os.environ.get("RANK", "0") != "0":
        ours.setLevel(logging.ERROR)
    # What other libraries will change some day is for our tests (deprecations are errors there), not for the user.
    if not debug:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
    # It says of every try that it tries again, with addresses and numbers: what comes of it is said in our words.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    # bitsandbytes reports an optional kernel that it would fetch from the Hub; it works without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # The Hub's and transformers' own bars and hints interleave with ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
