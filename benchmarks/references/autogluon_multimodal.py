"""AutoGluon's MultiModalPredictor the way its tutorial on parameter-efficient fine-tuning does it, with LoRA.

    python benchmarks/references/autogluon_multimodal.py --model FOLDER --data FOLDER --out FOLDER [--seed 0]

Needs the environment `autogluon` of benchmarks/environments.py. The tutorial's rate (constant, a tenth less for each
layer further down), batch and epochs; the library's own image transforms, choice and averaging of checkpoints. Its LoRA
looks for layers called query, value, q, k, v or o; timm's vision transformers have one called qkv, so it is named here:
otherwise head and layer norms alone learn, and nothing says so. Validation is reported once, at the end.
OUT/model is the predictor; with LoRA it loads only while OUT/backbone is where it was. See record.py.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from record import Record, arguments


def main() -> None:
    options = arguments(__doc__, learning_rate=3e-3, epochs=2)
    import pandas as pd
    import torch
    from autogluon.multimodal import MultiModalPredictor
    from safetensors.torch import load_file

    record = Record(options.out)
    record.imported()
    backbone = options.out.resolve() / "backbone"
    copy_backbone(options.model, backbone, load_file, torch.save)
    frames = {part: pd.DataFrame(_rows(options.data / part)) for part in ("train", "validation", "test")}

    predictor = MultiModalPredictor(label="label", path=str(options.out.resolve() / "model"))
    started = time.time()
    predictor.fit(
        frames["train"],
        tuning_data=frames["validation"],
        seed=options.seed,
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": str(backbone),
            "optim.peft": "lora",
            "optim.lora.filter": ["^qkv$"],
            "optim.lr_decay": 0.9,
            "optim.lr": options.learning_rate,
            "optim.end_lr": options.learning_rate,
            "optim.max_epochs": options.epochs,
            "optim.warmup_steps": 0,
            "env.batch_size": 32,
        },
    )
    record.stage("fit", len(frames["train"]) * options.epochs, time.time() - started)
    record.saved()  # fit has done it

    record.validated(float(predictor.evaluate(frames["validation"], metrics=["accuracy"])["accuracy"]))
    test = frames["test"]
    names = predictor.predict(test.drop(columns="label"))
    files = (f"{Path(file).parent.name}/{Path(file).name}" for file in test["image"])
    record.predicted(zip(files, names, strict=True))


def _rows(folder: Path) -> list[dict[str, str]]:
    return [{"image": str(file), "label": file.parent.name} for file in sorted(folder.glob("*/*")) if file.is_file()]


def copy_backbone(model: Path, backbone: Path, load, save) -> None:
    """The layout that AutoGluon reads: timm's config.json and a pytorch_model.bin without the old head."""
    backbone.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / "config.json", backbone / "config.json")
    head = json.loads((model / "config.json").read_text("utf-8"))["pretrained_cfg"]["classifier"] + "."
    weights = load(model / "model.safetensors")
    save({name: value for name, value in weights.items() if not name.startswith(head)}, backbone / "pytorch_model.bin")


if __name__ == "__main__":
    main()
