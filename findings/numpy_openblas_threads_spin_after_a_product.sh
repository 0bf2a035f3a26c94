#!/usr/bin/env bash
# numpy 2.3.5 (its wheel's OpenBLAS), two cores or more: after one small product, 32 x 192 by 192 x 192, the library's
# threads go on taking the processor for tens of milliseconds while the program sleeps; torch's own product leaves it
# free. Whatever runs next shares its cores with them: a torch forward pass of a ViT-Tiny took 17.5 instead of 15.5 ms
# an image when each batch was followed by such a product. OPENBLAS_NUM_THREADS=1 ends it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.15.0" "numpy==2.3.5"
cat > "$folder/look.py" <<'PY'
import os
import statistics
import sys
import time

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
import numpy as np
import torch

rows, factor = np.ones((32, 192), np.float32), np.ones((192, 192), np.float32)
kinds = {
    "numpy": lambda: rows @ factor,
    "torch": lambda: torch.from_numpy(rows) @ torch.from_numpy(factor),
}
for name, product in kinds.items():
    product()
    time.sleep(0.5)
    taken = []
    for _ in range(10):
        product()
        before = time.process_time()
        time.sleep(0.2)
        taken.append(1000 * (time.process_time() - before))
    found = statistics.median(taken)
    print(sys.argv[1], name, "spins" if found > 3 else "rests", f"({found:.1f} ms of processor in 200 ms of sleep)")
PY
"$folder/venv/bin/python" -W ignore "$folder/look.py" usual | tee "$folder/seen"
OPENBLAS_NUM_THREADS=1 "$folder/venv/bin/python" -W ignore "$folder/look.py" single | tee -a "$folder/seen"
# Seen:
# usual numpy spins (103.5 ms of processor in 200 ms of sleep)
# usual torch rests (0.1 ms of processor in 200 ms of sleep)
# single numpy rests (0.1 ms of processor in 200 ms of sleep)
# single torch rests (0.1 ms of processor in 200 ms of sleep)
test "$(cut -d' ' -f1-3 "$folder/seen" | tr '\n' ',')" = "usual numpy spins,usual torch rests,single numpy rests,single torch rests,"
