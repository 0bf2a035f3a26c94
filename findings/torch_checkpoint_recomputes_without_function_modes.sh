#!/usr/bin/env bash
# torch 2.15.0: a block that is checkpointed inside a TorchFunctionMode is recomputed without that mode, even though
# backward is called inside it, too. Tensor.backward is itself a torch function: the mode is taken away while it is
# handled, and with it from everything that non-reentrant checkpointing runs in there. Where the mode replaces a function
# by one that saves other shapes, checkpoint raises CheckpointError; where the shapes agree nothing is said, and the
# gradients are those of neither function. Without checkpointing the same code gives the right ones.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.15.0" "numpy<3"
cat > "$folder/look.py" <<'PY'
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint


class Tripled(TorchFunctionMode):
    """Attention with queries three times as long."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is functional.scaled_dot_product_attention:
            query, *rest = args
            args = (query * 3, *rest)
        return func(*args, **(kwargs or {}))


def gradient(checkpointed):
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 4, requires_grad=True)

    def block(x):
        return functional.gelu(functional.scaled_dot_product_attention(x, x.sin(), x.cos()))

    with Tripled():
        out = checkpoint(block, x, use_reentrant=False) if checkpointed else block(x)
        out.sum().backward()
    return x.grad


right, recomputed = gradient(False), gradient(True)
print("the same" if torch.allclose(right, recomputed, atol=1e-5) else "other gradients, and no error")
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/log" | tee "$folder/seen" || { tail -5 "$folder/log"; exit 1; }
# Seen: other gradients, and no error
grep -q "^other gradients, and no error$" "$folder/seen"
