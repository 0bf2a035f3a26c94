#!/usr/bin/env bash
# bitsandbytes 0.50.2, CPU: one forward pass changes the layer. Linear4bit brings its bias to the type that it computes
# in, and Linear8bitLt to that of its input, by replacing the bias's data: a float32 bias is a bfloat16 one afterwards,
# in state_dict too, and what is saved then has lost the digits. A plain Linear under autocast casts a copy. The storage
# that was the bias's is freed in the middle of the pass: who tells weights from activations by storage, as a count of
# saved tensors does, may take an activation for the bias.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "bitsandbytes==0.50.2" "torch==2.15.0"
cat > "$folder/look.py" <<'PY'
import bitsandbytes
import torch

torch.manual_seed(0)
plain = torch.nn.Linear(64, 64)
layers = {
    "Linear4bit": bitsandbytes.nn.Linear4bit(64, 64, compute_dtype=torch.bfloat16, quant_type="nf4"),
    "Linear8bitLt": bitsandbytes.nn.Linear8bitLt(64, 64, has_fp16_weights=False),
}
x = torch.randn(8, 64)
for name, layer in layers.items():
    layer.load_state_dict(plain.state_dict())
    layer = layer.to("cpu").train()
    with torch.no_grad():
        layer(x.bfloat16())
    bias = layer.state_dict()["bias"]
    print(name, bias.dtype, "digits lost" if (bias.float() - plain.bias).abs().max() > 0 else "as it was")
with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
    plain(x)
print("Linear", plain.bias.dtype)
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/log" | tee "$folder/seen" || { tail -5 "$folder/log"; exit 1; }
# Seen:
# Linear4bit torch.bfloat16 digits lost
# Linear8bitLt torch.bfloat16 digits lost
# Linear torch.float32
test "$(grep -c " torch.bfloat16 digits lost$" "$folder/seen")" = 2
grep -q "^Linear torch.float32$" "$folder/seen"
