"""The recipe's `data` and `augment` sections: where images come from, and what is done to those that train."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hf_finetune.section import Bytes, Section


def _as_text(value: object) -> object:
    """A split or column called 0, 2024 or True, which YAML reads as a number or a truth value."""
    return str(value) if isinstance(value, bool | int | float) else value


def _as_list(value: object) -> object:
    return (value,) if isinstance(value, str | int | float) else value


OwnName = Annotated[str, BeforeValidator(_as_text)]
OwnNames = Annotated[tuple[OwnName, ...], BeforeValidator(_as_list)]
Share = Annotated[float, Field(ge=0, lt=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _check_range(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] >= value[1]:
        raise ValueError(f"expected [black, white] with black below white, found {list(value)}")
    return value


ValueRange = Annotated[tuple[Finite, Finite], AfterValidator(_check_range)]


def _check_pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"expected a regular expression, found {value!r}: {error}") from error
    return value


def _check_fold(value: str) -> str:
    found = re.fullmatch(r"([1-9][0-9]*)/([1-9][0-9]*)", value)
    if found is None or int(found[2]) < 2 or int(found[1]) > int(found[2]):
        raise ValueError(f"expected which of how many folds is the test, such as 2/5, found {value!r}")
    return value


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_check_pattern)]


def _all_different(value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
    if isinstance(value, tuple) and (double := [name for name in value if value.count(name) > 1]):
        raise ValueError(f"each column is expected once, found {double[0]!r} twice")
    return value


class Data(Section):
    """Where the images are, how they are split, and what may be skipped."""

    name: str = Field(
        default="builtin:digits",
        min_length=1,
        description="Hub id, folder of class folders or tar shards, CSV or Parquet file with an image or path column, "
        "tar shards as train-{000..012}.tar, builtin:digits",
    )
    revision: str | None = Field(default=None, description="Hub branch, tag or commit; null is the default branch")
    config: str | None = Field(default=None, description="the Hub dataset's configuration (subset)")
    image_column: OwnName | None = Field(
        default=None, description="column of images or of their paths, of tar shards the ending; null: by its type"
    )
    label_column: Annotated[OwnName | OwnNames | None, AfterValidator(_all_different)] = Field(
        default=None,
        description="column of labels, or several; of tar shards the ending (cls, txt) or a key of .json; null: found "
        "by its type or name",
    )
    split_column: OwnName | None = Field(
        default=None, description="column that says each row's split; null: found by its name and values"
    )
    group_column: OwnName | None = Field(
        default=None,
        description="column of what rows belong to (a patient, a house, a video): no cut parts rows of one value",
    )
    group_pattern: Pattern | None = Field(
        default=None,
        description="the same out of each row's name (the path below the folder), as the first group of a regular "
        "expression: (patient_[0-9]+)_",
    )
    image_folder: str | None = Field(default=None, description="where the files of a table are; null: beside the table")
    inside: bool | None = Field(
        default=None,
        description="refuse images that lie outside of the dataset's folder, by paths or links; null: those of a "
        "dataset from the Hub, others are told of",
    )
    class_level: int | None = Field(
        default=None, ge=1, le=20, description="which level of folders below name is the classes; null: told by layout"
    )
    label_type: Literal["classes"] | None = Field(
        default=None,
        description="where labels are numbers, or nearly one a row: classes takes them as they are; null: ask",
    )
    join_alike: bool = Field(default=False, description="join classes that differ only in case or blanks")
    train_split: OwnName | None = Field(
        default=None, description="the dataset's own name of the training split; null: found by name"
    )
    validation_split: OwnName | None = Field(
        default=None, description="its own name; null: found by name, else cut from train"
    )
    test_split: OwnName | None = Field(
        default=None, description="its own name; null: found by name, else cut from train"
    )
    ignore_splits: OwnNames = Field(default=(), description="given splits to leave out, by the dataset's own name")
    validation_share: Share = Field(
        default=0.15, description="share of train to cut where no validation split is given"
    )
    test_share: Share = Field(default=0.15, description="share of train to cut where no test split is given; 0: none")
    split_seed: int | None = Field(default=None, ge=0, description="draws which rows are cut; null: train.seed")
    fold: Annotated[str, AfterValidator(_check_fold)] | None = Field(
        default=None,
        description="2/5: the test is the second of five folds of train, drawn as data.split_seed says; a given test "
        "split is left out. evaluate --folds 5 --trained runs all five",
    )
    shots: int | None = Field(
        default=None,
        ge=1,
        description="training rows to keep of each class, drawn by train.seed once validation and test are cut; "
        "null: all",
    )
    corrections: str | None = Field(
        default=None,
        description="table of rows to leave out and labels to change, such as the findings.csv of hf-finetune doctor",
    )
    max_bad_share: Share = Field(default=0.01, description="share of unreadable rows that is skipped; above it, stop")
    max_pixels: int = Field(default=50_000_000, gt=0, description="images with more pixels are refused as bombs")
    value_range: ValueRange | None = Field(
        default=None,
        description="[black, white] of 16-bit, 32-bit and float grey images; null: from the training rows' values",
    )
    download_limit: Bytes | None = Field(
        default=None,
        description="disk for the files of a Hub dataset; where they do not fit, each is fetched, decoded and removed "
        "again; null: half of what is free",
    )
    store_limit: Bytes | None = Field(default=None, description="disk for decoded images; null: half of what is free")
    cache_dir: str | None = Field(
        default=None, description="where decoded images and features are kept; null: the user's cache folder"
    )

    @property
    def group_key(self) -> str | None:
        """The key that says what rows belong together; None where none does."""
        named = {"data.group_column": self.group_column, "data.group_pattern": self.group_pattern}
        return next((key for key, value in named.items() if value is not None), None)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of labels that the recipe names."""
        if self.label_column is None:
            return ()
        return (self.label_column,) if isinstance(self.label_column, str) else self.label_column


Probability = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _check_scale(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1] or value[1] == 0:
        raise ValueError(f"expected [low, high] with low <= high and high above 0, found {list(value)}")
    return value


def _check_ratio(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] < math.inf:
        raise ValueError(f"expected [low, high] with 0 < low <= high, found {list(value)}")
    return value


CropScale = Annotated[tuple[Probability, Probability], AfterValidator(_check_scale)]
CropRatio = Annotated[tuple[float, float], AfterValidator(_check_ratio)]


class Augment(Section):
    """Per-sample augmentation of the batch, on the device that trains. Zero switches a step off."""

    crop_scale: CropScale = Field(
        default=(0.35, 1.0),
        description="area of the random resized crop as a share of the image; [1, 1]: the centre crop",
    )
    crop_ratio: CropRatio = Field(default=(0.75, 4 / 3), description="aspect of the crop, in original pixels")
    flip: Probability = Field(default=0.5, description="probability of a horizontal flip; 0 for text and digits")
    rotate_degrees: Strength = Field(default=0.0, description="rotation drawn from ± this many degrees")
    color: Strength = Field(default=0.0, description="brightness, contrast and saturation jitter, ± this share")
    randaugment: int = Field(default=0, ge=0, le=4, description="number of random operations per image")
    randaugment_magnitude: float = Field(default=9.0, ge=0, le=10, description="their strength, 0 to 10")
    mixup: Strength = Field(default=0.0, description="alpha of the Beta distribution; 0.2 to 0.8 are usual")
    cutmix: Strength = Field(default=0.0, description="alpha of the Beta distribution; 1.0 is usual")
    erasing: Probability = Field(default=0.0, description="probability of random erasing")
