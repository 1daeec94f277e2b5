#!/usr/bin/env bash
# Train all three scales for a given time, by default on the GPU.
#   scripts/gpu_train.sh DATA OUT MINUTES [--device cpu]
# DATA is a folder of images. OUT holds the runs: existing runs are resumed, new runs start from
# checkpoints/next/ or checkpoints/. The variable PYTHON names an interpreter other than python3.
# The script needs PyTorch, NumPy, safetensors, OpenCV, Pillow, psutil, tqdm and lazy-loader, and no
# network.
set -euo pipefail
data=$(realpath "$1") out=$(realpath -m "$2") minutes=$3
shift 3
cd "$(dirname "$0")/.."
case " $* " in
*" --device "*) ;;
*) set -- --device cuda "$@" ;;
esac
exec "${PYTHON:-python3}" -m training session "$data" "$out" "$minutes" "$@"
