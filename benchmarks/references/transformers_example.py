"""The standard way: what transformers' image-classification example does, written against the same public interfaces.

    python benchmarks/references/transformers_example.py --model FOLDER --data FOLDER --out FOLDER [--seed 0]

datasets' imagefolder (which turns photos by their EXIF tag), torchvision transforms per sample and epoch, the Trainer
with its defaults, full fine-tuning in float32: batch 32, learning rate 5e-5, 3 epochs, validation and a checkpoint each
epoch, the best by validation accuracy saved to OUT/model. Rate and epochs are the defaults of TrainingArguments, and
those that transformers' image-classification guide shows; its 16 × 4 accumulation steps (two updates an epoch to a
hundred photos) and its tenth of warm-up are left out.

Transforms, as the example has them: random resized crop and flip for training, resize and centre crop for validation;
for a timm checkpoint those that transformers' processor of timm models brings (`train_transforms`, `val_transforms`).
"""

from __future__ import annotations

from typing import Any

from record import Record, arguments


def image_folders(options: Any, processor: Any) -> Any:
    """datasets' imagefolder of the training and the validation photos, transformed when a row is read."""
    from datasets import load_dataset

    files = {split: f"{options.data}/{split}/**" for split in ("train", "validation")}
    data = load_dataset("imagefolder", data_files=files, cache_dir=f"{options.out}/cache")
    for split, steps in zip(("train", "validation"), transforms_of(processor), strict=True):
        data[split].set_transform(PerSample(steps))
    return data


def transforms_of(processor: Any) -> tuple[Any, Any]:
    """Those for training and for validation: float32 [3, side, side] of a PIL image."""
    from torchvision import transforms
    from transformers.models.timm_wrapper.image_processing_timm_wrapper import TimmWrapperImageProcessor

    if isinstance(processor, TimmWrapperImageProcessor):
        return processor.train_transforms, processor.val_transforms
    side = processor.size["shortest_edge"] if "shortest_edge" in processor.size else processor.size["height"]
    last = [transforms.ToTensor(), transforms.Normalize(mean=processor.image_mean, std=processor.image_std)]
    training = [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(), *last]
    return transforms.Compose(training), transforms.Compose(
        [transforms.Resize(side), transforms.CenterCrop(side), *last]
    )


class PerSample:
    """Adds `pixel_values` to the rows that are read."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**rows, "pixel_values": [self._steps(image.convert("RGB")) for image in rows["image"]]}


def batch_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    import torch

    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["label"] for row in rows]),
    }


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(axis=1) == found.label_ids).mean())}


def labelled_config(model: Any, names: list[str]) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model, num_labels=len(names))
    config.id2label, config.label2id = dict(enumerate(names)), {name: number for number, name in enumerate(names)}
    return config


def recording(record: Record) -> Any:
    """A callback that writes each validation, and how long training took without them."""
    import time

    from transformers import TrainerCallback

    class Recording(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.time()

        def on_epoch_end(self, *_: Any, train_dataloader: Any, **__: Any) -> None:
            record.stage("train", len(train_dataloader.dataset), time.time() - self.began)

        def on_evaluate(self, *_: Any, metrics: Any, eval_dataloader: Any, **__: Any) -> None:
            record.stage("validation", len(eval_dataloader.dataset), metrics["eval_runtime"])
            record.validated(metrics["eval_accuracy"])

    return Recording()


def pretrained(options: Any) -> tuple[Any, Any, Any]:
    """Processor, data and model with a new head for the data's classes."""
    from transformers import AutoImageProcessor, AutoModelForImageClassification, set_seed

    set_seed(options.seed)
    processor = AutoImageProcessor.from_pretrained(options.model)
    data = image_folders(options, processor)
    config = labelled_config(options.model, data["train"].features["label"].names)
    model = AutoModelForImageClassification.from_pretrained(options.model, config=config, ignore_mismatched_sizes=True)
    return processor, data, model


def train(model: Any, settings: Any, data: Any, processor: Any, record: Record, out: Any) -> None:
    """The Trainer's own loop; OUT/model gets the best epoch."""
    from transformers import Trainer

    trainer = Trainer(
        model=model,
        args=settings,
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        compute_metrics=accuracy,
        data_collator=batch_of,
        processing_class=processor,
        callbacks=[recording(record)],
    )
    trainer.train()
    trainer.save_model(f"{out}/model")


def main() -> None:
    options = arguments(__doc__, learning_rate=5e-5, epochs=3)
    from transformers import Trainer, TrainingArguments  # noqa: F401  (counted as an import)

    record = Record(options.out)
    record.imported()
    processor, data, model = pretrained(options)
    settings = TrainingArguments(
        f"{options.out}/checkpoints",
        per_device_train_batch_size=32,
        per_device_eval_batch_size=32,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        remove_unused_columns=False,
        report_to="none",
        seed=options.seed,
    )
    train(model, settings, data, processor, record, options.out)
    record.saved()


if __name__ == "__main__":
    main()
