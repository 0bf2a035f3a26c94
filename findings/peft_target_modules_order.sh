#!/usr/bin/env bash
# peft 0.21.2: one adapter, saved by two processes, gives two adapter_config.json.
# LoraConfig turns target_modules into a set, and save_pretrained writes the set as a list. The order of a set of strings
# follows Python's hash seed, which is another one in every process: the same training twice gives equal weights and
# unequal files, and whoever compares checksums sees a change that is none.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "peft==0.21.2" "torch==2.15.0" "transformers==5.24.0"
cat > "$folder/save.py" <<'PY'
import sys
import torch
from peft import LoraConfig, get_peft_model


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("query", "key", "value", "dense", "up", "down"):
            setattr(self, name, torch.nn.Linear(4, 4))


torch.manual_seed(0)
names = ["query", "key", "value", "dense", "up", "down"]
get_peft_model(Net(), LoraConfig(r=2, target_modules=names)).save_pretrained(sys.argv[1])
PY
for seed in 1 2 3; do
  PYTHONHASHSEED=$seed "$folder/venv/bin/python" "$folder/save.py" "$folder/$seed" 2> "$folder/log" || { cat "$folder/log"; exit 1; }
  sha256sum < "$folder/$seed/adapter_model.safetensors"
  "$folder/venv/bin/python" -c "import json, sys; print(json.load(open(sys.argv[1]))['target_modules'])" "$folder/$seed/adapter_config.json"
done | tee "$folder/seen"
# Seen: one checksum of the weights, and more than one order of the six names.
weights=$(grep -c . <(grep -- ' -' "$folder/seen" | sort -u))
orders=$(grep "^\[" "$folder/seen" | sort -u | wc -l)
echo "$weights checksum of the weights, $orders orders of target_modules"
[ "$weights" = 1 ] && [ "$orders" -gt 1 ]
