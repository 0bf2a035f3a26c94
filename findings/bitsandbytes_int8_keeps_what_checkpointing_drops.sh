#!/usr/bin/env bash
# bitsandbytes 0.50.2, int8 on a CPU in training: gradient checkpointing does not free the layer's input.
# In train mode on a CPU, Linear8bitLt multiplies by a function that keeps its input as an attribute of the autograd
# context and not by save_for_backward. torch's saved-tensor hooks never see it, so that non-reentrant checkpointing
# (and save_on_cpu, which works by the same hooks) saves nothing there: the inner activation lives on after the forward
# pass, where a plain Linear's is dropped. The frozen int8 weight needs no input for its gradient in the first place.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "bitsandbytes==0.50.2" "torch==2.15.0"
cat > "$folder/look.py" <<'PY'
import gc
import weakref

import bitsandbytes
import torch
from torch.utils.checkpoint import checkpoint

plain = torch.nn.Linear(256, 256)
int8 = bitsandbytes.nn.Linear8bitLt(256, 256, has_fp16_weights=False)
int8.load_state_dict(plain.state_dict())
int8 = int8.to("cpu").train()
for layer in (plain, int8):
    inner = []

    def block(x):
        doubled = x * 2
        inner.append(weakref.ref(doubled))
        return layer(doubled)

    seen = []
    x = torch.randn(64, 256, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: seen.append(tensor) or tensor, lambda tensor: tensor):
        layer(x)
    out = checkpoint(block, x, use_reentrant=False)
    gc.collect()
    state = "lives on" if inner[0]() is not None else "is dropped"
    print(f"{type(layer).__name__}: hooks saw {len(seen)} tensors; the checkpointed input {state}")
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/log" | tee "$folder/seen" || { cat "$folder/log"; exit 1; }
# Seen: Linear: hooks saw 2 tensors; the checkpointed input is dropped
#       Linear8bitLt: hooks saw 0 tensors; the checkpointed input lives on
grep -q "^Linear: hooks saw 2 tensors; the checkpointed input is dropped$" "$folder/seen"
grep -q "^Linear8bitLt: hooks saw 0 tensors; the checkpointed input lives on$" "$folder/seen"
