"""What is known of a backbone before its weights are read: `read_facts`.

Owns putting the parts together (source, build, anatomy, targets, measure, preprocess) into one BackboneFacts.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hf_finetune.backbones.config import Model
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from torch import nn


def read_facts(model: Model, num_labels: int = 2) -> BackboneFacts:
    """Read a backbone's facts from its config and preprocessing files, building it on the meta device.

    `num_labels` is the size of the head that `parameters` counts. Raises ModelError where the backbone cannot be found
    or used.
    """
    from hf_finetune.backbones.anatomy import find_blocks, find_head
    from hf_finetune.backbones.build import build_checked, build_empty, read_config
    from hf_finetune.backbones.checkpoint import find
    from hf_finetune.backbones.measure import forward_flops
    from hf_finetune.backbones.own_head import output_names
    from hf_finetune.backbones.targets import find_targets, one_image
    from hf_finetune.preprocess.describe import read_preprocess

    source = find(model)
    config = read_config(source)
    preprocess = read_preprocess(source.location, source.commit or source.revision)
    size = (preprocess.height, preprocess.width)
    empty = build_checked(config, model.name, num_labels, *size)
    wider = build_empty(config, num_labels + 1, next(empty.parameters()).device.type)
    head = find_head(empty, wider)
    # The one that has run no image yet: ConViT reads a weight's type in its first forward alone.
    targets = find_targets(wider, head.names, one_image(wider.eval(), *size))
    timm = source.is_timm
    return BackboneFacts(
        name=model.name,
        library=source.library,
        architecture=str(config.architecture) if timm else type(empty).__name__,
        commit=source.commit,
        licence=source.licence,
        parameters=_count(empty),
        parameters_by_type=_by_type(empty),
        head=head.names,
        head_in_features=head.in_features,
        blocks=find_blocks(empty, head.names),
        preprocess=preprocess,
        supports_checkpointing=bool(empty.supports_gradient_checkpointing),
        targets=targets.by_role,
        excluded=targets.excluded,
        module_shapes=targets.shapes,
        linears=targets.linears,
        fixed_linears=targets.fixed,
        mapped_linears=targets.mapped,
        num_labels=num_labels,
        head_parameters_per_label=_count(wider) - _count(empty),
        outputs=output_names(source, config),
        batch_norms=_batch_norms(empty),
        forward_flops=forward_flops(empty, *size),
    )


def _count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def _batch_norms(model: nn.Module) -> int:
    return sum(any(name == "running_mean" for name, _ in each.named_buffers(recurse=False)) for each in model.modules())


def _by_type(model: nn.Module) -> dict[str, int]:
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    for module in model.modules():
        for weight in module.parameters(recurse=False):
            if id(weight) not in seen:
                seen.add(id(weight))
                counts[type(module).__name__] += weight.numel()
    return dict(counts.most_common())
