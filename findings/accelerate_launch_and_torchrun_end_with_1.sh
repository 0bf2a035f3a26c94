#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.15.0: whatever a launched script ends with, `accelerate launch` and `torchrun` end with 1.
# A script that asks to be started again (75, EX_TEMPFAIL of sysexits.h, which schedulers and systemd can be told to
# take as such) cannot be told from one with a mistake (2) once a launcher stands around it; the launcher's own error is
# a Python exception, and the rank's code stands in its text alone. One process makes no difference. A batch script that
# requeues by the exit code has to start the ranks itself (srun, a Job's pods), or to call the launcher's functions in a
# process of its own and look into ChildFailedError.failures.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "torch==2.15.0" "accelerate==1.15.0" "numpy"
cat > "$folder/ends.py" <<'PY'
import sys

sys.exit(int(sys.argv[1]))
PY
cd "$folder"
for code in 0 2 75; do
    for launcher in \
        "torchrun --standalone --nproc-per-node 2" \
        "accelerate launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no" \
        "accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"; do
        ended=0
        # shellcheck disable=SC2086
        ACCELERATE_USE_CPU=true "$folder/venv/bin/"$launcher ends.py "$code" > /dev/null 2>&1 || ended=$?
        echo "$code: $ended by $launcher" | tee -a seen
    done
done
# Seen: 0 ends with 0; 2 and 75 end with 1, by all three.
[ "$(grep -c '^0: 0 by' seen)" = 3 ]
[ "$(grep -cE '^(2|75): 1 by' seen)" = 6 ]
