"""A loaded result that answers: `hf_finetune.load(path).predict(images)`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_finetune.data.sources.regular import read_regular
from hf_finetune.errors import DataError
from hf_finetune.labels import Labels
from hf_finetune.preprocess.pixels import UnreadableImage, open_sized, render, upright_rgb, without_pillow_limit
from hf_finetune.result.load import find_result, load_result
from hf_finetune.result.manifest import Manifest, read_manifest
from hf_finetune.result.predict.pictures import Picture, as_pillow, several
from hf_finetune.result.typical import Typical, read_typical
from hf_finetune.tasks.predictions import Prediction

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, repr=False)
class Classifier:
    """A loaded result: the model (a torch module in eval mode), the names of its outputs and its preprocessing."""

    model: nn.Module
    labels: Labels
    manifest: Manifest
    path: Path
    typical: Typical | None = None  # what its training images are like

    def __repr__(self) -> str:
        names = ", ".join(self.labels.names[:3]) + ", …" * (len(self.labels.names) > 3)
        base = "whole model" if self.manifest.whole else f"{self.manifest.adapter['kind']} on {self.manifest.base}"
        kind, count = self.manifest.task["kind"], len(self.labels.names)
        what = f"{count:,} classes" if kind == "classification" else f"{kind}, {count:,} outputs"
        return f"<Classifier: {base}, {what} ({names}), from {self.path}>"

    def predict(
        self, images: Picture | Iterable[Picture], batch: int = 32, *, mirrored: bool = False
    ) -> list[Prediction]:
        """Predict for image files, encoded bytes, Pillow images or arrays, several or one alone; always a list.

        An array is uint8 or bool [H, W], uint8 [H, W, 1, 3 or 4], uint16 [H, W], or several as [N, H, W, C].
        `mirrored`: see `answer`. Raises DataError naming the one it cannot read.
        """
        predictions: list[Prediction] = []
        waiting: list[tuple[np.ndarray, int]] = []
        for image in several(images):
            waiting.append(self._pixels(image))
            if len(waiting) == batch:
                predictions += self._answer(waiting, mirrored)
                waiting = []
        return predictions + self._answer(waiting, mirrored) if waiting else predictions

    def _pixels(self, image: Picture) -> tuple[np.ndarray, int]:
        """uint8 [3, H, W], and how many of its values lay beyond the value range."""
        preprocess = self.manifest.preprocess
        name = str(image) if isinstance(image, str | Path) else "the image"
        try:
            if isinstance(image, str | Path):
                image = read_regular(str(image))
            if isinstance(image, bytes):
                with without_pillow_limit():
                    rgb, _, clipped = open_sized(image, self.manifest.max_pixels, value_range=preprocess.value_range)
            else:
                rgb, clipped = upright_rgb(as_pillow(image), preprocess.value_range)
        except IsADirectoryError:
            raise DataError(
                f"{name} is a folder; an image is expected.", "Give its files, or sorted(folder.glob(…))."
            ) from None
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror or error}.") from None
        except UnreadableImage as error:
            raise DataError(f"{name} cannot be read as an image: {error}.", remedy(error)) from None
        if preprocess.steps is None:
            from hf_finetune.preprocess.stock import stock_processor, stock_renderer

            return stock_renderer(stock_processor(str(self.path), None))(rgb), clipped
        return render(rgb, preprocess), clipped

    def _answer(self, drawn: Sequence[tuple[np.ndarray, int]], mirrored: bool) -> list[Prediction]:
        said = self.answer(np.stack([pixels for pixels, _ in drawn]), mirrored=mirrored)
        return [replace(each, clipped=clipped) for each, (_, clipped) in zip(said, drawn, strict=True)]

    def answer(self, pixels: np.ndarray, *, mirrored: bool = False) -> list[Prediction]:
        """What the model says of images drawn as the checkpoint wants them, uint8 [N, 3, H, W].

        `mirrored`: by the mean of each image's logits and those of its mirror image. The distance is the image's own.
        """
        import torch

        from hf_finetune.backbones.surgery.cut import Watch

        inputs = self.inputs(pixels)
        distances: list[float | None] = [None] * len(pixels)
        with torch.no_grad():
            if self.typical is None:
                logits = self.model(pixel_values=inputs).logits
            else:
                with Watch(self._heads(), None) as watch:
                    logits = self.model(pixel_values=inputs).logits
                distances = [float(each) for each in self.typical.ratios(watch.features.cpu().numpy())]
            if mirrored:
                logits = (logits + self.model(pixel_values=inputs.flip(-1)).logits) / 2
        said = self.manifest.target.predictions(logits.float().cpu().numpy())
        return [replace(each, distance=distance) for each, distance in zip(said, distances, strict=True)]

    def features(self, pixels: np.ndarray) -> np.ndarray:
        """float32 [N, d] that the head reads, of images drawn as for `answer`.

        Raises ModelError where the head takes anything but one vector an image.
        """
        import torch

        from hf_finetune.backbones.surgery.cut import Watch

        with torch.no_grad(), Watch(self._heads(), None) as watch:
            self.model(pixel_values=self.inputs(pixels))
        return watch.features.cpu().numpy()

    def inputs(self, pixels: np.ndarray) -> Tensor:
        """uint8 [N, 3, H, W] → float32 as the backbone expects, on its device."""
        import torch

        from hf_finetune.preprocess.normalise import Normaliser

        device = next(self.model.parameters()).device
        return Normaliser(self.manifest.preprocess)({"pixel_values": torch.from_numpy(pixels).to(device)})

    def _heads(self) -> list[nn.Module]:
        backbone: Any = getattr(self.model, "get_base_model", lambda: self.model)()
        return [backbone.get_submodule(name) for name in self.manifest.head]


def remedy(error: UnreadableImage) -> str:
    """What can be done about an image that cannot be read; nothing, mostly."""
    return "Allow it with --max-pixels, or load(…, max_pixels=…)." if "data.max_pixels" in str(error) else ""


def load(
    path: str | Path,
    *,
    revision: str | None = None,
    base: str | None = None,
    device: str | None = None,
    max_pixels: int | None = None,
    cache_dir: str | None = None,
) -> Classifier:
    """Load a run folder, an adapter/ or model/ folder, or a Hub repo (`user/name`, at `revision`), ready to predict.

    `base` names the base model where it has moved; `device` defaults to the machine's best. Weights are float32, or
    quantized as in training. Images of more than `max_pixels` (default: the run's data.max_pixels) are refused. Where
    the run streamed its frozen weights they are streamed again, converted ones kept below `cache_dir` (default: where
    decoded images are). Raises
    AdapterError where the folder is damaged or its base holds other weights.
    """
    import torch

    from hf_finetune.machine.detect import training_device

    folder = find_result(path, revision)
    manifest = read_manifest(folder)
    if max_pixels is not None:
        manifest = replace(manifest, max_pixels=max_pixels)
    model = load_result(
        folder,
        manifest,
        torch.float32,
        device or training_device(),
        base=base,
        compute="auto",
        cache_dir=cache_dir,
    )
    return Classifier(model, Labels(manifest.labels), manifest, folder, read_typical(folder))
