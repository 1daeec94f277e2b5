#!/usr/bin/env bash
# All that needs a GPU: its tests and the latency table, into one report.
#   scripts/gpu_check.sh WHEELS REPORT
# WHEELS is a folder of wheels (hfdn-deploy's dependencies, the extras gpu and rtx, pytest, hypothesis,
# scikit-image, setuptools); what the machine's Python already has, such as PyTorch, is used as it
# is. No network is needed.
set -uo pipefail
wheels=$(realpath "$1") report=$(realpath -m "$2")
cd "$(dirname "$0")/.."
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv --system-site-packages "$environment"
python="$environment/bin/python"
failed=0
{
    echo "# GPU check, $(date -u +%F)"
    echo '```'
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv
    "$python" -m pip install --quiet --no-index --find-links "$wheels" -e '.[gpu,rtx]' pytest hypothesis scikit-image setuptools || failed=1
    "$environment/bin/hfdn" doctor
    "$python" -c 'from hfdn_deploy.cuda import Device; print(Device.current())' || failed=1
    "$python" -m pytest -m gpu tests/gpu -rA || failed=1
    echo '```'
    "$environment/bin/hfdn" bench x4 --backends tensorrt cuda rtx-ep --precisions fp32 fp16 int8 || failed=1
} > "$report" 2>&1
exit "$failed"
