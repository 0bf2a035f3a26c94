"""The last block for the class token alone, where the head reads nothing else.

Keys and values come from every token as before; query, output projection and MLP are computed for the first token only,
so that of a block's matrix products a quarter remains (three of twelve parts of its weights, the keys and values of a
ViT among them). What the head gets is the same, and so are the gradients, whatever is trained in the block. Whether a
head reads only the first token is tried on real images by the caller, not assumed of a family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_finetune.errors import ModelError
from hf_finetune.machine.rounding import ANOTHER_ORDER, difference

# The blocks below are read, not guessed: transformers 5.23 and timm 1.0.31 write them alike in these families.
_TRANSFORMERS = {"ViTLayer", "DeiTLayer", "ViTMSNLayer"}


def can_be_class_token_only(block: nn.Module) -> bool:
    """Whether there is a class-token form of this block."""
    return _form_of(block) is not None


@contextmanager
def class_token_only(block: nn.Module) -> Iterator[None]:
    """Inside, the block takes [B, N, D] and gives [B, 1, D]: its first token; other kinds of block stay as they are."""
    form = _form_of(block)
    if form is None:
        yield
        return
    block.forward = form
    try:
        yield
    finally:
        block.__dict__.pop("forward", None)


def _form_of(block: Any) -> Callable[..., Tensor] | None:
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block

    if type(block) is Block and type(block.attn) is Attention and block.attn.gate is None:
        return _timm(block)
    if type(block).__name__ in _TRANSFORMERS and type(block).__module__.startswith("transformers."):
        return _transformers(block)
    return None


def _timm(block: Any) -> Callable[..., Tensor]:
    attention = block.attn

    def forward(x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        qkv = attention.qkv(block.norm1(x)).reshape(batch, tokens, 3, attention.num_heads, attention.head_dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = attention.attn_drop.p if attention.training else 0.0
        mixed = _attend(attention.q_norm(q[:, :, :1]), attention.k_norm(k), v, attention.scale, dropout)
        mixed = attention.proj_drop(attention.proj(attention.norm(mixed)))
        first = x[:, :1] + block.drop_path1(block.ls1(mixed))
        return first + block.drop_path2(block.ls2(block.mlp(block.norm2(first))))

    return forward


def _transformers(layer: Any) -> Callable[..., Tensor]:
    attention = layer.attention

    def heads(projected: Tensor) -> Tensor:
        return projected.view(*projected.shape[:-1], -1, attention.head_dim).transpose(1, 2)

    def forward(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:  # a mask, which images do not have
        normed = layer.layernorm_before(hidden_states)
        q, k, v = attention.q_proj(normed[:, :1]), attention.k_proj(normed), attention.v_proj(normed)
        dropout = attention.attention_dropout if attention.training else 0.0
        mixed = attention.o_proj(_attend(heads(q), heads(k), heads(v), attention.scaling, dropout))
        first = hidden_states[:, :1] + layer.dropout(mixed)
        return first + layer.dropout(layer.mlp(layer.layernorm_after(first)))

    return forward


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float) -> Tensor:
    """q [B, H, 1, d], k and v [B, H, N, d] → [B, 1, H·d]. One row of scores: nothing for a fused kernel to save."""
    weights = ((q * scale) @ k.transpose(-2, -1)).softmax(dim=-1)
    mixed = nn.functional.dropout(weights, dropout, training=dropout > 0) @ v
    return mixed.transpose(1, 2).flatten(2)


@torch.no_grad()
def reads_class_token_only(model: nn.Module, block: nn.Module, features: Callable[[], Tensor]) -> bool:
    """Whether `features()` [B, d], the head's input for some images, stays the same with the class-token form."""
    if not can_be_class_token_only(block):
        return False
    model.eval()
    try:
        whole = features()
        with class_token_only(block):
            short = features()
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, ModelError):
        return False  # a head that pools, or reads a second token, fails in ways of its own
    if short.shape != whole.shape:
        return False
    apart, allowed = difference(whole.float().cpu().numpy(), short.float().cpu().numpy(), ANOTHER_ORDER)
    return apart <= allowed
