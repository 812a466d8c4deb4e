#!/bin/sh
# Trains on the NVIDIA GPUs of this machine. Continues the run of the working directory.
#
# Example: scripts/gpu.sh --config configs/lcdnet_gopro.py --workdir runs/gopro
#
# Arguments are those of train.py. Its exit code is that of this script. Without a usable GPU the
# script ends with an error, where JAX alone would train on the CPU. Variables:
#   GPUS    numbers of the GPUs to use, separated by commas (default: all)
#   PYTHON  interpreter that has lcdnet_jax[train,cuda] (default: python)
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
if ! gpus=$(nvidia-smi --list-gpus) || [ -z "$gpus" ]; then
    echo "error: nvidia-smi finds no GPU; install the NVIDIA driver, or run train.py for a CPU" >&2
    exit 1
fi
echo "$gpus"
if [ -n "${GPUS:-}" ]; then
    export CUDA_VISIBLE_DEVICES="$GPUS"
fi
export JAX_PLATFORMS=cuda,cpu # JAX fails if the first one is missing
exec "${PYTHON:-python}" "$root/train.py" "$@"
