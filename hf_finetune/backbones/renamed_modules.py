"""What a backbone's modules were called before: by transformers 4, and by timm itself, without transformers' wrapper.

The names are transformers' own: the table by which it loads old checkpoints (`transformers.conversion_mapping`). Owns
names only; no weights are read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_finetune.backbones.config import Model

if TYPE_CHECKING:
    from transformers.core_model_loading import WeightRenaming


@dataclass(frozen=True)
class ModuleNames:
    """Translates full names of modules, such as `vit.layers.0.attention.q_proj`, from and to their former names."""

    renamings: tuple[WeightRenaming, ...]

    def now(self, former: str) -> str:
        """`vit.encoder.layer.0.attention.attention.query` → `vit.layers.0.attention.q_proj`; others as they are."""
        from transformers.core_model_loading import rename_source_key

        return rename_source_key(former, list(self.renamings), [])[0]

    def formerly(self, name: str) -> str:
        """The other way round."""
        from transformers.core_model_loading import rename_source_key

        back: list[Any] = [renaming.reverse_transform() for renaming in reversed(self.renamings)]
        return rename_source_key(name, back, [], reverse=True)[0]


def module_names(model: Model) -> ModuleNames:
    """The names of `model`'s modules, built without weights. Raises ModelError where the backbone cannot be found."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    from hf_finetune.backbones.build import build_empty, read_config
    from hf_finetune.backbones.checkpoint import find

    empty = build_empty(read_config(find(model)), 2)
    # Conversions that split or join tensors have no counterpart for low-rank factors: only names are taken over.
    table = get_model_conversion_mapping(empty, add_legacy=False)
    return ModuleNames(tuple(each for each in table if isinstance(each, WeightRenaming)))
