"""AutoGluon's MultiModalPredictor on photos with a number each (`problem_type="regression"`), as its defaults have it.

    python benchmarks/references/autogluon_regression.py --model FOLDER --data TABLE --out FOLDER [--seed 0]
                                                         [--way full lora] [--time-limit SECONDS]

TABLE is a CSV with the columns image (a path), number and split (train, validation, test). Needs the environment
`autogluon` of benchmarks/environments.py. `full` sets nothing but the backbone: every weight is trained, for 20 epochs
at most, with the library's rates, batch, image transforms, early stopping, choice and averaging of checkpoints. `lora`
has the settings of its tutorial, see autogluon_multimodal.py. A time limit is the library's own `time_limit` of fit.
OUT/predictions.csv has `image`, `predicted`, in the unit of `number`, for the test alone; R² is the caller's to
compute. See record.py for the rest.
"""

from __future__ import annotations

import csv
import time
from pathlib import Path

from autogluon_multimodal import copy_backbone
from record import Record, parser_of

LORA = {
    "optim.peft": "lora",
    "optim.lora.filter": ["^qkv$"],
    "optim.lr_decay": 0.9,
    "optim.lr": 3e-3,
    "optim.end_lr": 3e-3,
    "optim.max_epochs": 2,
    "optim.warmup_steps": 0,
    "env.batch_size": 32,
}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--way", choices=("full", "lora"), default="full")
    parser.add_argument("--time-limit", type=int, help="seconds of fit; default: none")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    import pandas as pd
    import torch
    from autogluon.multimodal import MultiModalPredictor
    from safetensors.torch import load_file

    record = Record(options.out)
    record.imported()
    backbone = options.out.resolve() / "backbone"
    copy_backbone(options.model, backbone, load_file, torch.save)
    table = pd.read_csv(options.data)
    frames = {split: rows[["image", "number"]].reset_index(drop=True) for split, rows in table.groupby("split")}

    predictor = MultiModalPredictor(
        label="number", problem_type="regression", path=str(options.out.resolve() / "model"), verbosity=3
    )
    started = time.time()
    predictor.fit(
        frames["train"],
        tuning_data=frames["validation"],
        seed=options.seed,
        time_limit=options.time_limit,
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": str(backbone),
            **(LORA if options.way == "lora" else {}),
        },
    )
    record.stage("fit", len(frames["train"]), time.time() - started)
    record.saved()  # fit has done it
    record.validated(float(predictor.evaluate(frames["validation"], metrics=["r2"])["r2"]))
    said = predictor.predict(frames["test"].drop(columns="number"), as_pandas=True)
    with (Path(options.out) / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "predicted"])
        writer.writerows(zip(frames["test"]["image"], map(float, said), strict=True))


if __name__ == "__main__":
    main()
