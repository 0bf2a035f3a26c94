"""Logging for the command line: our messages as plain lines on rank 0, other libraries' warnings only."""

from __future__ import annotations

import logging
import os
import sys
import warnings


def configure_logging(debug: bool) -> None:
    """Our loggers speak on stderr at INFO (DEBUG with --debug), on rank 0 only; others at WARNING."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours = logging.getLogger("hf_finetune")
    ours.handlers = [handler]
    ours.propagate = False
    ours.setLevel(logging.DEBUG if debug else logging.INFO)
    if os.environ.get("RANK", "0") != "0":
        ours.setLevel(logging.ERROR)
    # What other libraries will change some day is for our tests (deprecations are errors there), not for the user.
    if not debug:
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
    # bitsandbytes reports an optional kernel that it would fetch from the Hub; it works without.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # The Hub's and transformers' own bars and hints interleave with ours.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
