"""Only the head is trained; the backbone stays as it is."""

from __future__ import annotations

from typing import Literal

from hf_finetune.section import Section


class HeadOnly(Section):
    """Linear probing by gradient descent."""

    kind: Literal["head_only"] = "head_only"
