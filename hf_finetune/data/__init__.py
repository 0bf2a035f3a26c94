"""Data: rows, labels and splits, and the decode-once image store that feeds training."""

from hf_finetune.data.augment_config import Augment
from hf_finetune.data.config import Data

__all__ = ["Augment", "Data"]
