#!/bin/bash
# One run on several machines by torchrun. Start it on every machine with its own number and the first one's address:
#
#   MACHINES=2 MACHINE=0 ADDRESS=10.0.0.1 docs/cluster/torchrun.sh recipe.yaml output.dir=/shared/run
#   MACHINES=2 MACHINE=1 ADDRESS=10.0.0.1 docs/cluster/torchrun.sh recipe.yaml output.dir=/shared/run
#
# output.dir lies on storage that all machines see. PROCESSES: on each machine, one for each GPU (default: all GPUs; 1
# without any). PORT has to be open between the machines. Where a process dies, all are started again, at most RESTARTS
# times, and go on from the last whole checkpoint. Run on: see README.md.
set -eu
: "${MACHINES:?how many machines}" "${MACHINE:?the number of this one, from 0}" "${ADDRESS:?of machine 0}"

# Seconds between a signal and the end, for saving; torch's own default is 30.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "$MACHINES" --node-rank "$MACHINE" --master-addr "$ADDRESS" --master-port "${PORT:-29500}" \
    --nproc-per-node "${PROCESSES:-auto}" --max-restarts "${RESTARTS:-3}" -m hf_finetune train "$@"
