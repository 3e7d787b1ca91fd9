#!/usr/bin/env bash
# Fill a gallery on several GPUs or nodes; the ranks do not talk to each other.
# On one node a free port is taken unless PORT says which.
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: [NNODES=1 NODE_RANK=0 MASTER_ADDR=127.0.0.1 PORT=29500] $0 CONFIG CHECKPOINT GPUS SOURCE... --gallery URI [gallery.py index arguments]" >&2
    exit 1
fi
CONFIG=$1
CHECKPOINT=$2
GPUS=$3
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    RENDEZVOUS=(--standalone)
else
    RENDEZVOUS=(--nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}")
fi

export PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}"
exec python -m torch.distributed.run "${RENDEZVOUS[@]}" --nproc_per_node="$GPUS" \
    "$TOOLS/gallery.py" index "$CONFIG" "$CHECKPOINT" "${@:4}" --launcher pytorch
