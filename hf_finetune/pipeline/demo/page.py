"""The page itself: a place for a picture, and what the model says of it, in Gradio.

Owns what is on the page and what happens to a picture. Gradio's own requests to the network, its records in the
browser and its fonts are turned off here. Imports Gradio only to run.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_finetune.data.sources.given import Given
from hf_finetune.errors import FinetuneError, MachineError
from hf_finetune.pipeline.demo import words
from hf_finetune.pipeline.demo.nearest import Nearest
from hf_finetune.result.classifier import Classifier
from hf_finetune.result.predict.stream import Answered, Stream
from hf_finetune.result.saliency import saliency

if TYPE_CHECKING:
    from fastapi import FastAPI

LARGEST_FILE = 100_000_000  # bytes; what `predict` fetches from an address at most
_SECONDS_BETWEEN_LOOKS = 2
# Files of pictures are looked through so often, and deleted when they are that old: a page may be open for days.
_SECONDS_BETWEEN_SWEEPS, _SECONDS_KEPT = 600, 3600


@contextlib.contextmanager
def gradio_alone() -> Iterator[Path]:
    """An environment in which Gradio asks nobody and keeps its files in a folder that is gone afterwards.

    What the environment says of another program's page (GRADIO_ROOT_PATH, GRADIO_ALLOWED_PATHS, GRADIO_MCP_SERVER …)
    does not count for this one. Raises MachineError where Gradio is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="hf_finetune_demo_", ignore_cleanup_errors=True) as folder:
        ours = {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GRADIO_TEMP_DIR": folder,
            "GRADIO_EXAMPLES_CACHE": str(
                Path(folder) / "examples"
            ),  # else in the current folder, and served from there
        }
        before = {name: each for name, each in os.environ.items() if name.startswith("GRADIO_") or name in ours}
        for name in before:
            del os.environ[name]
        os.environ.update(ours)
        try:
            _import_gradio()
            yield Path(folder)
        finally:
            for name in ours:
                os.environ.pop(name, None)
            os.environ.update(before)


def _import_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"The page of `demo` is made by Gradio, which cannot be imported here: {error}.",
            "pip install 'hf_finetune[demo]'",
        ) from None


@dataclass(frozen=True)
class Answering:
    """What happens to a picture: `picture` is what Gradio knows of an uploaded file ({path, orig_name}), or None."""

    classifier: Classifier
    nearest: Nearest
    model: threading.Lock

    def answer(self, picture: dict[str, Any] | None) -> tuple[str, str, str]:
        """The answer, the nearest training images, and nothing where the last picture's map was."""
        if not picture or not picture.get("path"):
            return "", words.nearest(self.nearest.line, ()), ""
        try:
            answered = self._answered(picture)
            if answered.prediction is None:
                return words.problem(answered.problem), "", ""
            return words.answer(answered.prediction), self._near(answered), ""
        except FinetuneError as error:
            return words.problem(str(error)), "", ""

    def look(self, picture: dict[str, Any] | None) -> str:
        """What the model looked at."""
        if not picture or not picture.get("path"):
            return words.problem("A picture is expected first.")
        try:
            answered = self._answered(picture)
            if answered.pixels is None:
                return words.problem(answered.problem)
            with self.model:
                (heat,) = saliency(self.classifier, answered.pixels[None])
            return words.looked_at(answered.pixels, heat)
        except FinetuneError as error:
            return words.problem(str(error))

    def near(self, picture: dict[str, Any] | None) -> str:
        """The nearest training images, or how far the search for them has come."""
        if not picture or not picture.get("path") or not self.nearest.ready:
            return words.nearest(self.nearest.line, ())
        try:
            return self._near(self._answered(picture))
        except FinetuneError:
            return ""

    def _answered(self, picture: dict[str, Any]) -> Answered:
        name = picture.get("orig_name") or "The picture"
        with self.model:
            ((answered,),) = Stream(self.classifier, 1, keep_pixels=True).run([Given(name, picture["path"])])
        return answered

    def _near(self, answered: Answered) -> str:
        return words.nearest(self.nearest.line, () if answered.pixels is None else self.nearest.of(answered.pixels))


def app_of(answering: Answering, name: str, folder: Path) -> FastAPI:
    """The page as an application. `folder`: where Gradio keeps what is uploaded."""
    import gradio as gr
    from fastapi import FastAPI
    from gradio.themes import Default, Font

    quiet: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
    at_work: dict[str, Any] = {**quiet, "concurrency_limit": 1, "concurrency_id": "model"}
    with gr.Blocks(
        title=name, analytics_enabled=False, delete_cache=(_SECONDS_BETWEEN_SWEEPS, _SECONDS_KEPT)
    ) as blocks:
        gr.HTML(words.heading(name, answering.classifier.manifest), js_on_load=None)
        with gr.Row():
            with gr.Column():
                # As it is: Gradio mirrors what a camera sees, and a digit in the mirror is another thing.
                camera = gr.WebcamOptions(mirror=False, constraints={"video": {"facingMode": {"ideal": "environment"}}})
                picture = gr.Image(label="Picture", type="filepath", height=320, buttons=[], webcam_options=camera)
                button = gr.Button("Show what the model looked at")
            with gr.Column():
                answer = gr.HTML(js_on_load=None)
                looked_at = gr.HTML(js_on_load=None)
        nearest = gr.HTML(words.nearest(answering.nearest.line, ()), js_on_load=None)
        timer = gr.Timer(_SECONDS_BETWEEN_LOOKS)

        def tick(given: dict[str, Any] | None) -> tuple[str, Any]:
            waiting = answering.nearest.waiting
            return answering.near(given), gr.Timer(active=waiting)

        picture.change(answering.answer, picture, [answer, nearest, looked_at], **at_work)
        button.click(answering.look, picture, looked_at, **at_work)
        timer.tick(tick, picture, [nearest, timer], show_progress="hidden", **at_work)
    _take_only_uploads(picture, folder)
    blocks.queue(default_concurrency_limit=1)
    fonts = [Font(name) for name in ("system-ui", "sans-serif")]
    fixed = [Font(name) for name in ("ui-monospace", "monospace")]
    outer = FastAPI(openapi_url=None)
    return gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=LARGEST_FILE,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=Default(font=fonts, font_mono=fixed),
        css=words.style(),
    )


def _take_only_uploads(picture: Any, folder: Path) -> None:
    """A request names the file of its picture, and for a mounted page it is for us to check which: nothing is taken but
    what was uploaded, and no address is fetched."""
    root = folder.resolve()

    async def taken(named: str | Path | None) -> str | None:
        import gradio as gr

        if named is None or not Path(named).resolve().is_relative_to(root):
            raise gr.Error("An uploaded picture is expected.", print_exception=False)
        return str(named)

    picture.async_move_resource_to_block_cache = taken
