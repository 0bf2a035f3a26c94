"""fastai the way its vision tutorial does it: vision_learner on a timm backbone, then fine_tune.

    python benchmarks/references/fastai_fine_tune.py --model FOLDER --data FOLDER --out FOLDER [--seed 0]

Needs the environment `fastai` of benchmarks/environments.py. Photos resized to 460 and augmented on the batch at 224,
batch 64 (a last incomplete batch is left out, which is fastai's default), one epoch on fastai's own head alone, then
`--epochs` on all layers with a hundredth of the rate for the backbone; normalised as the weights' config.json says.
Saves the exported learner, OUT/model/export.pkl. See record.py for what it writes.
"""

from __future__ import annotations

import time
from pathlib import Path

from record import Record, arguments

SIDE = 224


def main() -> None:
    # fine_tune's own rate; four epochs as in the first classifier that fastai's book trains on downloaded photos.
    options = arguments(__doc__, learning_rate=2e-3, epochs=4)
    from fastai.vision.all import (
        Callback,
        ImageDataLoaders,
        Resize,
        accuracy,
        aug_transforms,
        get_image_files,
        set_seed,
        vision_learner,
    )

    record = Record(options.out)
    record.imported()

    class Watch(Callback):
        """Each epoch's validation accuracy, and how long each of fine_tune's two fits took."""

        order = 60  # after fastai's Recorder, which works out the metrics

        def before_fit(self) -> None:
            self.stage = "head" if self.learn.opt.frozen_idx > 0 else "all layers"
            self.started, self.images = time.time(), 0

        def after_batch(self) -> None:
            self.images += len(self.learn.yb[0]) if self.learn.training else 0

        def after_epoch(self) -> None:
            record.validated(float(self.learn.final_record[-1]))

        def after_fit(self) -> None:
            record.stage(self.stage, self.images, time.time() - self.started)

    set_seed(options.seed, reproducible=True)
    photos = len(get_image_files(options.data / "train"))
    batches = ImageDataLoaders.from_folder(
        options.data,
        train="train",
        valid="validation",
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=SIDE),
        bs=min(64, photos),  # with fewer photos than its default, fastai would train on no batch at all
    )
    # A name for timm: the folder's architecture, weights and normalisation, with nothing to download.
    learner = vision_learner(batches, f"local-dir:{options.model.resolve()}", metrics=accuracy, cbs=Watch())
    learner.fine_tune(options.epochs, base_lr=options.learning_rate)
    learner.remove_cb(Watch)  # it holds our files; the export is for someone else
    saved = options.out.resolve() / "model" / "export.pkl"
    saved.parent.mkdir(parents=True, exist_ok=True)
    learner.export(saved)
    record.saved()

    files: list[Path] = sorted(get_image_files(options.data / "test"))
    scores, _ = learner.get_preds(dl=learner.dls.test_dl(files))
    names = [batches.vocab[row] for row in scores.argmax(dim=1).tolist()]
    record.predicted((f"{file.parent.name}/{file.name}", name) for file, name in zip(files, names, strict=True))


if __name__ == "__main__":
    main()
