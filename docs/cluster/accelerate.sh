#!/bin/bash
# One run on several machines by accelerate's launcher, with accelerate_configs/multi_node.yaml or a file of your own.
# Start it on every machine with its own number and the first one's address:
#
#   MACHINES=2 MACHINE=0 ADDRESS=10.0.0.1 PROCESSES=8 docs/cluster/accelerate.sh recipe.yaml output.dir=/shared/run
#   MACHINES=2 MACHINE=1 ADDRESS=10.0.0.1 PROCESSES=8 docs/cluster/accelerate.sh recipe.yaml output.dir=/shared/run
#
# PROCESSES: over all machines, one for each GPU. output.dir lies on storage that all machines see. CONFIG: another
# configuration. Where a process dies, all are started again, at most RESTARTS times. Run on: see README.md.
set -eu
: "${MACHINES:?how many machines}" "${MACHINE:?the number of this one, from 0}" "${ADDRESS:?of machine 0}"
: "${PROCESSES:?over all machines}"

export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}
exec "${PYTHON:-python}" -m accelerate.commands.launch \
    --config_file "${CONFIG:-accelerate_configs/multi_node.yaml}" --num_machines "$MACHINES" --machine_rank "$MACHINE" \
    --main_process_ip "$ADDRESS" --main_process_port "${PORT:-29500}" --num_processes "$PROCESSES" \
    --max_restarts "${RESTARTS:-3}" -m hf_finetune train "$@"
