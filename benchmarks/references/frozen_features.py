"""Frozen features: scikit-learn on what timm's model without its head gives; no augmentation, one pass over the photos.

    python benchmarks/references/frozen_features.py --model FOLDER --data FOLDER --out FOLDER [--kind logistic | svm]

The features are float32 from timm's evaluation transforms (resolve_data_config), read by timm's loader with 2 workers;
then StandardScaler and LogisticRegression (max_iter 3000) or LinearSVC, whose C is the one of a grid that is best on
validation, the smallest of equals. OUT/model/pipeline.joblib holds the fitted pipeline, whose answers are class names.
timm neither turns photos by their EXIF tag nor reads other files than .png, .jpg and .jpeg. There is nothing for a
learning rate or epochs to set; --seed sets LinearSVC's random state.
"""

from __future__ import annotations

import time
from typing import Any

from record import Record, arguments

GRID = [10.0 ** (half / 2) for half in range(-8, 5)]  # 1e-4 to 1e2
BATCH, WORKERS, MOST_ITERATIONS = 32, 2, 3000


class Features:
    """Reads a split: features float32 [N, D], class names and CLASS/file in the loader's order."""

    def __init__(self, options: Any, names: list[str]) -> None:
        import timm
        import torch
        from timm.data import resolve_data_config

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = timm.create_model(f"local-dir:{options.model}", pretrained=True, num_classes=0)
        self._model = model.eval().to(self._device)
        self._config = resolve_data_config({}, model=model)
        self._root, self._names = str(options.data), names

    def __call__(self, split: str) -> tuple[Any, list[str], list[str]]:
        import torch
        from timm.data import create_dataset, create_loader

        class_map = {name: number for number, name in enumerate(self._names)}
        data = create_dataset("", root=self._root, split=split, class_map=class_map)
        loader = create_loader(
            data, batch_size=BATCH, num_workers=WORKERS, persistent_workers=False, device=self._device, **self._config
        )
        rows, labels = [], []
        with torch.inference_mode():
            for images, numbers in loader:
                rows.append(self._model(images).float().cpu())
                labels += [self._names[number] for number in numbers.tolist()]
        return torch.cat(rows).numpy(), labels, data.filenames()


def classifier(kind: str, c: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if kind == "svm":
        return make_pipeline(StandardScaler(), LinearSVC(C=c, random_state=seed))
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=MOST_ITERATIONS))


def fit(options: Any, train: Any, validation: Any, record: Record) -> Any:
    """The pipeline whose C is best on validation."""
    best, reached = None, -1.0
    for c in GRID:
        pipeline = classifier(options.kind, c, options.seed).fit(*train)
        accuracy = float(pipeline.score(*validation))
        record.validated(accuracy)
        if accuracy > reached:
            best, reached = pipeline, accuracy
    return best


def main() -> None:
    options = arguments(__doc__, learning_rate=0.0, epochs=1, kind=("logistic", "svm"))
    import joblib
    import sklearn.linear_model
    import sklearn.svm  # noqa: F401  (counted as an import)
    import timm  # noqa: F401
    import torch

    record = Record(options.out)
    record.imported()
    torch.manual_seed(options.seed)
    names = sorted(path.name for path in (options.data / "train").iterdir() if path.is_dir())
    features = Features(options, names)
    began = time.time()
    train, validation = features("train")[:2], features("validation")[:2]
    record.stage("features", len(train[1]) + len(validation[1]), time.time() - began)
    began = time.time()
    pipeline = fit(options, train, validation, record)
    record.stage("fit", len(train[1]), time.time() - began)
    (options.out / "model").mkdir(exist_ok=True)
    joblib.dump(pipeline, options.out / "model" / "pipeline.joblib")
    record.saved()
    began = time.time()
    rows, _, files = features("test")
    answers = pipeline.predict(rows)
    record.stage("test", len(files), time.time() - began)
    record.predicted(zip(files, answers.tolist(), strict=True))


if __name__ == "__main__":
    main()
