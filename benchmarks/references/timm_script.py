"""timm's way: what its train.py does, with timm's own datasets, loaders, optimizer, schedule, and checkpoints.

    python benchmarks/references/timm_script.py --model FOLDER --data FOLDER --out FOLDER [--seed 0]

As train.py's defaults have it (huggingface/pytorch-image-models): full fine-tuning in float32, random resized crop
(scale .08 to 1) in a random interpolation, flip .5, colour jitter .4, no erasing, no mixup; label smoothing .1; no
drop-out or drop-path; weight decay 2e-5; cosine to 0 with warm-up from 1e-5; batch 128; the prefetching loader with 4
workers that persist (fewer where there are fewer cores: torch warns otherwise); TF32 on a GPU; validation and a
checkpoint each epoch, the best by top-1 kept. timm neither turns photos by their EXIF tag nor reads other files than
.png, .jpg and .jpeg. OUT/model holds its checkpoints and the class map that its inference.py takes.

train.py is made for 300 epochs of ImageNet; where its defaults make no sense for a short fine-tuning of few photos:
  - optimizer AdamW, not SGD: timm's recipes for ViTs (the `sw` and `sbb` families of its hparams page) use it;
  - learning rate 1e-4: the default, .1 × √(batch / 256) for Adams, destroys pretrained weights; timm's author advises a
    tenth of the rate from scratch (issue 25), which is 1e-3 in those recipes;
  - 5 epochs, of which 1 warms up: the default 5 of warm-up would be all of them;
  - the schedule moves with each update (`--sched-on-updates`): by epochs, the first would pass at 1e-5 throughout;
  - batch 128 is halved, to 16 at least, until an epoch has ten updates: the training loader drops the last incomplete
    batch, so that fewer than 128 photos would never train.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from record import Record, arguments

BATCH, SMALLEST_BATCH, UPDATES_PER_EPOCH = 128, 16, 10
WEIGHT_DECAY, SMOOTHING, WARMUP_RATE, WORKERS = 2e-5, 0.1, 1e-5, 4


def batch_size_for(images: int) -> int:
    size = BATCH
    while size > SMALLEST_BATCH and images // size < UPDATES_PER_EPOCH:
        size //= 2
    return size


def loader_of(split: str, options: Any, model: Any, class_map: dict[str, int], batch_size: int | None = None) -> Any:
    """Batches of float32 [B, 3, H, W] and class numbers on the model's device; a batch size means training."""
    from timm.data import create_dataset, create_loader, resolve_data_config

    training = batch_size is not None
    data = create_dataset("", root=str(options.data), split=split, is_training=training, class_map=class_map)
    config = resolve_data_config({}, model=model)
    return create_loader(
        data,
        input_size=config["input_size"],
        batch_size=batch_size or BATCH,
        is_training=training,
        scale=(0.08, 1.0),
        ratio=(3 / 4, 4 / 3),
        hflip=0.5,
        color_jitter=0.4,
        interpolation="random" if training else config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
        num_workers=min(WORKERS, os.cpu_count() or 1),
        device=next(model.parameters()).device,
    )


def predict(model: Any, loader: Any) -> Any:
    """Class numbers, int64 [N], in the order of the loader's files."""
    import torch

    model.eval()
    with torch.inference_mode():
        return torch.cat([model(images).argmax(1).cpu() for images, _ in loader])


def train_epoch(model: Any, loader: Any, loss_of: Any, optimizer: Any, scheduler: Any, epoch: int) -> None:
    model.train()
    for number, (images, labels) in enumerate(loader, epoch * len(loader) + 1):
        optimizer.zero_grad()
        loss_of(model(images), labels).backward()
        optimizer.step()
        scheduler.step_update(number)


def train(model: Any, options: Any, class_map: dict[str, int], record: Record) -> Path:
    """The best checkpoint's file."""
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import CheckpointSaver

    photos = sum(1 for _ in options.data.glob("train/*/*"))
    training = loader_of("train", options, model, class_map, batch_size_for(photos))
    validation = loader_of("validation", options, model, class_map)
    truth = [number for _, number in validation.dataset.reader.samples]
    optimizer = create_optimizer_v2(model, opt="adamw", lr=options.learning_rate, weight_decay=WEIGHT_DECAY)
    scheduler, epochs = create_scheduler_v2(
        optimizer,
        sched="cosine",
        num_epochs=options.epochs,
        warmup_epochs=1,
        warmup_lr=WARMUP_RATE,
        min_lr=0.0,
        step_on_epochs=False,
        updates_per_epoch=len(training),
    )
    folder = str(options.out / "model")
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=folder, recovery_dir=folder)
    for epoch in range(epochs):
        began = time.time()
        train_epoch(model, training, LabelSmoothingCrossEntropy(SMOOTHING), optimizer, scheduler, epoch)
        record.stage("train", len(training) * training.loader.batch_size, time.time() - began)
        began = time.time()
        right = sum(a == b for a, b in zip(predict(model, validation).tolist(), truth, strict=True))
        record.stage("validation", len(truth), time.time() - began)
        record.validated(right / len(truth))
        saver.save_checkpoint(epoch, metric=right / len(truth))
    return options.out / "model" / "model_best.pth.tar"


def main() -> None:
    options = arguments(__doc__, learning_rate=1e-4, epochs=5)
    import timm
    import torch
    from timm.models import load_checkpoint
    from timm.utils import random_seed

    record = Record(options.out)
    record.imported()
    random_seed(options.seed)
    device = "cpu"
    if torch.cuda.is_available():
        device = "cuda"
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    names = sorted(path.name for path in (options.data / "train").iterdir() if path.is_dir())
    class_map = {name: number for number, name in enumerate(names)}
    (options.out / "model").mkdir(exist_ok=True)
    (options.out / "model" / "class_map.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    model = timm.create_model(f"local-dir:{options.model}", pretrained=True, num_classes=len(names)).to(device)
    best = train(model, options, class_map, record)
    record.saved()
    load_checkpoint(model, str(best))
    test = loader_of("test", options, model, class_map)
    began = time.time()
    found = predict(model, test).tolist()
    record.stage("test", len(found), time.time() - began)
    record.predicted(zip(test.dataset.filenames(), (names[number] for number in found), strict=True))


if __name__ == "__main__":
    main()
