"""The recipe's `data` section."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hf_finetune.section import Bytes, Section

Share = Annotated[float, Field(ge=0, lt=1)]


class Data(Section):
    """Where the images are, how they are split, and what may be skipped."""

    name: str = Field(
        default="builtin:digits",
        min_length=1,
        description="Hub id, folder of class folders, CSV or Parquet file with an image or path column, builtin:digits",
    )
    revision: str | None = Field(default=None, description="Hub branch, tag or commit; null is the default branch")
    config: str | None = Field(default=None, description="the Hub dataset's configuration (subset)")
    image_column: str | None = Field(default=None, description="null: found by its type")
    label_column: str | None = Field(default=None, description="null: found by its type or name")
    train_split: str | None = Field(default=None, description="the dataset's own name of it; null: found by name")
    validation_split: str | None = Field(default=None, description="null: found by name, else cut from train")
    test_split: str | None = Field(default=None, description="null: found by name, else cut from train")
    validation_share: Share = Field(
        default=0.15, description="share of train to cut where no validation split is given"
    )
    test_share: Share = Field(default=0.15, description="share of train to cut where no test split is given; 0: none")
    max_bad_share: Share = Field(default=0.01, description="share of unreadable rows that is skipped; above it, stop")
    max_pixels: int = Field(default=50_000_000, gt=0, description="images with more pixels are refused as bombs")
    store_limit: Bytes | None = Field(default=None, description="disk for decoded images; null: half of what is free")
    cache_dir: str | None = Field(default=None, description="null: the user's cache folder")
