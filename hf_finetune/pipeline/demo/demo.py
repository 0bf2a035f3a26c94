"""A page of this machine to which one gives pictures: the result is loaded, and served until it is interrupted.

Does not own what the page shows (`page.py`), who may ask (`server.py`) or the training images (`nearest.py`).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from hf_finetune.pipeline.demo.nearest import Nearest
from hf_finetune.pipeline.demo.page import Answering, app_of, gradio_alone
from hf_finetune.pipeline.demo.server import App, Gate, address_of, bound, is_loopback, serve
from hf_finetune.preprocess.pixels import quiet_pillow
from hf_finetune.report.references import last_component
from hf_finetune.result.classifier import load
from hf_finetune.result.load import find_result

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """`ports`: the first that is free is taken."""

    result: str
    host: str
    ports: tuple[int, ...]
    revision: str | None = None
    base: str | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class Served:
    """A page that is ready; browsers that ask before `until_interrupted` wait for it."""

    address: str
    app: App
    listening: socket.socket

    def until_interrupted(self) -> None:
        """Answer until Ctrl-C or SIGTERM."""
        with quiet_pillow():
            serve(self.app, self.listening)
        logger.info("The demo has ended.")


@contextlib.contextmanager
def demo(asked: Asked) -> Iterator[Served]:
    """The page of a result. Nothing that was uploaded is left when the block ends.

    Raises FinetuneError where Gradio is missing, no port is free, or the result cannot be loaded.
    """
    result = find_result(asked.result, asked.revision)  # a mistake in its name is known before seconds of imports
    with _terminated_as_interrupted(), gradio_alone() as folder, contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(bound(asked.host, asked.ports)))
        classifier = load(result, base=asked.base, max_pixels=asked.max_pixels)
        model = threading.Lock()
        nearest = Nearest(classifier, model)
        app = app_of(Answering(classifier, nearest, model), last_component(asked.result), folder)
        loopback = is_loopback(asked.host)
        if not loopback:
            logger.warning(
                "--host %s: anybody on the network who reaches this machine can use the page, and sees the training "
                "images that it shows.",
                asked.host,
            )
        taken = listening.getsockname()[1]
        if len(asked.ports) > 1 and taken != asked.ports[0]:
            logger.info("Port %d is in use; %d is taken instead.", asked.ports[0], taken)
        nearest.start()
        stack.callback(nearest.stop)
        yield Served(address_of(listening, asked.host), Gate(app, loopback), listening)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, as a service manager sends it, ends the program as Ctrl-C does: with the uploads deleted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
