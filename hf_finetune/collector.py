"""Python's cycle collector during imports: what they make lives to the end, and is looked through in vain.

Looking costs .9 of the 4.6 s that PEFT, timm and the Trainer take to import (AMD EPYC, 2026-11-24).
"""

from __future__ import annotations

import gc

RARELY = 200_000  # more objects than collected between two looks; Python's own default is 700

_usual: tuple[int, int, int] | None = None


def collect_rarely() -> None:
    """For a process that is ours alone. `collect_as_usual` ends it."""
    global _usual
    _usual = gc.get_threshold()
    gc.set_threshold(RARELY, *_usual[1:])


def collect_as_usual() -> None:
    """After the imports: what is there is not looked at again. Nothing where `collect_rarely` was not called."""
    global _usual
    if _usual is not None:
        gc.freeze()
        gc.set_threshold(*_usual)
        _usual = None
