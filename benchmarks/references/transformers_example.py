"""The standard way: what transformers' image-classification example does, written against the same public interfaces.

    python benchmarks/references/transformers_example.py MODEL TRAIN_FOLDER VALIDATION_FOLDER OUT [--seed 0]

datasets' imagefolder, torchvision transforms per sample and epoch (random resized crop and flip; resize and centre
crop for validation), the Trainer with its defaults, full fine-tuning in float32: batch 32, learning rate 5e-5, 3
epochs, validation and a checkpoint each epoch, the best by validation accuracy saved to OUT/model. Prints one line of
JSON: validation accuracy by epoch, seconds from process start to the saved model, and memory.
"""

from __future__ import annotations

import argparse
import json
import time

import psutil

STARTED = psutil.Process().create_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "train", "validation", "out"):
        parser.add_argument(name)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import torch
    from datasets import load_dataset
    from torchvision import transforms
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForImageClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    from hf_finetune.peak import PeakMemory

    set_seed(options.seed)
    with PeakMemory() as peak:
        files = {"train": f"{options.train}/**", "validation": f"{options.validation}/**"}
        data = load_dataset("imagefolder", data_files=files, cache_dir=f"{options.out}/cache")
        names = data["train"].features["label"].names
        config = AutoConfig.from_pretrained(options.model, num_labels=len(names), id2label=dict(enumerate(names)))
        config.id2label, config.label2id = dict(enumerate(names)), {name: i for i, name in enumerate(names)}
        model = AutoModelForImageClassification.from_pretrained(
            options.model, config=config, ignore_mismatched_sizes=True
        )
        processor = AutoImageProcessor.from_pretrained(options.model)
        side, mean, std = _geometry(processor)
        normalise = [transforms.ToTensor(), transforms.Normalize(mean=mean, std=std)]
        train_steps = transforms.Compose(
            [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(), *normalise]
        )
        eval_steps = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side), *normalise])

        def with_steps(steps: transforms.Compose):
            def transform(rows: dict) -> dict:
                rows["pixel_values"] = [steps(image.convert("RGB")) for image in rows["image"]]
                return rows

            return transform

        data["train"].set_transform(with_steps(train_steps))
        data["validation"].set_transform(with_steps(eval_steps))
        arguments = TrainingArguments(
            f"{options.out}/checkpoints",
            per_device_train_batch_size=32,
            per_device_eval_batch_size=32,
            learning_rate=5e-5,
            num_train_epochs=3,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="accuracy",
            remove_unused_columns=False,
            report_to="none",
            seed=options.seed,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(axis=1) == p.label_ids).mean())},
            data_collator=lambda rows: {
                "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
                "labels": torch.tensor([row["label"] for row in rows]),
            },
            processing_class=processor,
        )
        trainer.train()
        trainer.save_model(f"{options.out}/model")
        seconds = time.time() - STARTED
    log = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry]
    times = [entry for entry in trainer.state.log_history if "train_runtime" in entry]
    print(
        json.dumps(
            {
                "validation": log,
                "seconds": seconds,
                "train_seconds": times[0]["train_runtime"] if times else None,
                "baseline_bytes": peak.baseline_bytes,
                "anonymous_bytes": peak.anonymous_bytes,
                "resident_bytes": peak.resident_bytes,
            }
        )
    )


def _geometry(processor: object) -> tuple[int, list[float], list[float]]:
    """Side, mean and std, from a transformers processor or timm's."""
    found = getattr(processor, "data_config", None)
    if found is not None:
        return int(found["input_size"][-1]), list(found["mean"]), list(found["std"])
    size = processor.size  # pyright: ignore[reportAttributeAccessIssue]
    side = size["shortest_edge"] if "shortest_edge" in size else size["height"]
    return side, processor.image_mean, processor.image_std  # pyright: ignore[reportAttributeAccessIssue]


if __name__ == "__main__":
    main()
