"""An adapter from elsewhere as the starting point of a recipe: does it fit, what does it decide, putting it on.

Owns the agreement of recipe, base and adapter. Where its files come from is fetch.py's, what is in them layout.py's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hf_finetune.adapters.starting.fetch import CONFIG, LABELS, WEIGHTS, Fetched
from hf_finetune.adapters.starting.layout import Layout, Names, read_layout
from hf_finetune.errors import AdapterError
from hf_finetune.types import BackboneFacts

if TYPE_CHECKING:
    from peft import PeftModel

    from hf_finetune.adapters.lora import Lora

logger = logging.getLogger(__name__)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Start:
    """A starting adapter that fits. `digest`: sha256 (hex) of its weights and config; `fingerprint`: of its base, where
    it is one of ours; `keeps_head`: its head answers this run's labels; `head_note` says why, or why not."""

    fetched: Fetched
    layout: Layout
    digest: str
    fingerprint: str | None
    keeps_head: bool
    head_note: str

    def check_base(self, found: str, base: str) -> None:
        """Raise AdapterError where it was trained on other weights than those of fingerprint `found`."""
        if self.fingerprint not in (None, found):
            raise AdapterError(
                f"adapter.from: {self.fetched.name!r} was trained on other weights than {base!r} holds (fingerprint "
                f"{self.fingerprint[:12]}, found {found[:12]})",
                "give the base model that it was trained on as model.name, at the same revision",
            )


def read_start(
    fetched: Fetched,
    facts: BackboneFacts,
    names: Names,
    labels: Sequence[str],
    fingerprint: str | None,
    origin_of: Callable[[str], tuple[bool, str | None]] = lambda _: (False, None),
) -> Start:
    """Read an adapter's files against this backbone and these labels; no weights yet.

    `fingerprint` of the base's weights, where the adapter carries one, decides instead of the base's name. `origin_of`
    says of a model's name whether it is quantized already, and what it was made from. Raises AdapterError where the
    adapter cannot be the start.
    """
    layout = read_layout(fetched, facts, names)
    if fingerprint is None:
        _check_name(fetched, layout, facts, origin_of)
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update(hashlib.sha256((fetched.folder / name).read_bytes()).digest())
    note = _head_problem(layout, facts, _labels(fetched.folder), labels)
    kept = note is None
    return Start(fetched, layout, digest.hexdigest(), fingerprint, kept, note or "its labels are the run's")


def _check_name(
    fetched: Fetched, layout: Layout, facts: BackboneFacts, origin_of: Callable[[str], tuple[bool, str | None]]
) -> None:
    """Shapes of two sizes of training of one architecture are the same; the adapter of one is noise on the other."""
    there = layout.base
    known = there is not None and _HUB_ID.fullmatch(there) and not Path(there).exists()
    if known and facts.commit is not None:
        if str(there).casefold() != facts.name.casefold():
            quantized, origin = origin_of(str(there))
            if origin is not None and origin.casefold() == facts.name.casefold():
                logger.info("adapter.from: %s was trained on %s, which is %s quantized.", fetched.name, there, origin)
                return
            if quantized:
                raise AdapterError(
                    f"adapter.from: {fetched.name!r} was trained on {there!r}, but model.name is {facts.name!r}, and "
                    f"{there!r} cannot be: it is quantized already",
                    f"set model.name={origin}"
                    if origin
                    else "give the unquantized model that it was made from as "
                    "model.name, and as base_model_name_or_path in a copy of the adapter",
                )
            raise AdapterError(
                f"adapter.from: {fetched.name!r} was trained on {there!r}, but model.name is {facts.name!r}",
                f"set model.name={there}; where both are the same weights, change base_model_name_or_path in a copy of "
                "the adapter",
            )
        return
    logger.warning(
        "adapter.from: %s calls its base %r; whether those are the weights of %s cannot be told, only that all shapes "
        "fit.",
        fetched.name,
        there,
        facts.name,
    )


def _labels(folder: Path) -> tuple[str, ...] | None:
    """The label names of config.json beside the adapter, in order; stock PEFT writes none, timm's wrapper a list."""
    try:
        config = json.loads((folder / LABELS).read_text(encoding="utf-8"))
        if "id2label" not in config and config.get("label_names"):
            return tuple(str(name) for name in config["label_names"])
        names = config["id2label"]
        return tuple(str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0])))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _head_problem(
    layout: Layout, facts: BackboneFacts, there: tuple[str, ...] | None, labels: Sequence[str]
) -> str | None:
    if not layout.head:
        return "it holds no head"
    if there is None:
        return "it does not say which labels its head answers"
    if there != tuple(labels):
        return "its labels are not the run's"
    each = facts.head_parameters_per_label
    if each is not None and layout.head_parameters != each * len(labels):
        return "its head is of another shape"
    return None


def follow(lora: Lora, start: Start, facts: BackboneFacts) -> Lora:
    """The section with the adapter's layout where it left that open. Raises AdapterError where it says otherwise."""
    from hf_finetune.adapters.resolve import resolve_targets, short_names

    layout = start.layout
    there = {"rank": layout.rank, "alpha": layout.alpha, "rslora": layout.rslora, "dora": layout.dora}
    differing = {
        key: (wanted, value)
        for key, value in there.items()
        if (wanted := getattr(lora, key)) is not None and wanted != value
    }
    name = start.fetched.name
    if differing:
        texts = [
            f"adapter.{key} is {_plain(wanted)}, but {_plain(value)} there"
            for key, (wanted, value) in differing.items()
        ]
        right = " ".join(f"adapter.{key}={_plain(value)}" for key, (_, value) in differing.items())
        raise AdapterError(
            f"adapter.from: {name!r} is another LoRA than the recipe's: {'; '.join(texts)}", f"set {right}"
        )
    if lora.targets is not None and set(resolve_targets(lora.targets, facts)) != set(layout.targets):
        wanted = resolve_targets(lora.targets, facts)
        raise AdapterError(
            f"adapter.from: {name!r} adapts {len(layout.targets)} modules, but adapter.targets names {len(wanted)}, "
            f"not the same",
            f"leave adapter.targets out, or set it to [{', '.join(short_names(layout.targets, facts))}]",
        )
    targets = lora.targets or short_names(layout.targets, facts)
    return lora.model_copy(update={**there, "targets": targets})


def _plain(value: object) -> str:
    """As YAML writes it: 16, 32, true."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def install(start: Start, model: PeftModel) -> None:
    """Put the adapter's weights, and its head where that is kept, on a model with the same LoRA.

    Raises AdapterError where one of them did not arrive.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    from hf_finetune.adapters.attach import check_arrived

    places = {**start.layout.low_rank, **(start.layout.head if start.keeps_head else {})}
    saved = load_file(start.fetched.folder / WEIGHTS)
    tensors = {there: saved[key] for key, there in places.items()}
    # Images have no embedding layer to look for; "auto" would ask the Hub about the base model.
    fresh = get_peft_model_state_dict(model, save_embedding_layers=False)
    if not start.keeps_head:
        tensors |= {key: tensor for key, tensor in fresh.items() if ".lora_" not in key}
    set_peft_model_state_dict(model, {key: tensor.clone() for key, tensor in tensors.items()})
    check_arrived(model, tensors, start.fetched.name)
    at = f" at {start.fetched.commit}" if start.fetched.commit else ""
    head = "its head is kept" if start.keeps_head else "a fresh head"
    logger.info(
        "Starting from %s%s (rank %d); %s: %s.", start.fetched.name, at, start.layout.rank, head, start.head_note
    )
