#!/usr/bin/env bash
# transformers 5.24.0 with wandb 0.31: importing Trainer prints a line on standard output where WANDB_MODE is offline.
# The import of transformers' integrations looks whether wandb can be used, and says so by print and not by logging, no
# matter whether anything is reported to wandb. A program that prints JSON or CSV on standard output, and imports Trainer
# on a machine where somebody has set WANDB_MODE=offline (as clusters without a network do), prints one line too many.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.15.0" "accelerate==1.15.0" "wandb==0.31.0"
cat > "$folder/look.py" <<'PY'
import json

from transformers import Trainer

print(json.dumps({"imported": Trainer.__name__}))
PY
look() { env "$@" "$folder/venv/bin/python" -W ignore "$folder/look.py" 2> "$folder/log"; }
look WANDB_MODE=online > "$folder/online" || { cat "$folder/log"; exit 1; }
look WANDB_MODE=offline > "$folder/offline" || { cat "$folder/log"; exit 1; }
echo "WANDB_MODE=online:"; cat "$folder/online"
echo "WANDB_MODE=offline:"; cat "$folder/offline"
# Seen: WANDB_MODE=online:
#       {"imported": "Trainer"}
#       WANDB_MODE=offline:
#       [INFO] Running in WANDB offline mode
#       {"imported": "Trainer"}
test "$(wc -l < "$folder/online")" = 1
test "$(wc -l < "$folder/offline")" = 2
grep -q "^\[INFO\] Running in WANDB offline mode$" "$folder/offline"
