#!/usr/bin/env bash
# All that needs a GPU, in one go and without a network: its tests, and what HFDN takes on it.
#   scripts/gpu_check.sh WHEELS OUT [--simulate]
# WHEELS is a folder of wheels: hfdn-deploy itself (pip wheel --no-deps .), its dependencies, those of
# the extras gpu and rtx, pytest, hypothesis and scikit-image. They are put beside what the machine's
# Python has, such as PyTorch, which is used as it is. PYTHON names another interpreter than python3.
# OUT gets doctor.txt, tests.txt, junit.xml, report.md and results.json; what fails does not stop the
# rest, and ends in exit code 1. With --simulate the same is done on a CPU, on a simulated GPU.
set -uo pipefail
wheels=$(realpath "$1") out=$(realpath -m "$2")
shift 2
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
packages=$(mktemp -d)
trap 'rm -rf "$packages"' EXIT
mkdir -p "$out"
failed=0
if compgen -G "$wheels/*.whl" >/dev/null; then
    # Dependencies are not looked for: the machine's own packages count, whoever installed them.
    "$python" -m pip install --quiet --no-index --no-deps --target "$packages" "$wheels"/*.whl || failed=1
fi
export PYTHONPATH="$packages:$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m hfdn_deploy doctor >"$out/doctor.txt" 2>&1 || failed=1
timeout 180 "$python" -m pytest -m gpu tests/gpu -rA --junitxml="$out/junit.xml" >"$out/tests.txt" 2>&1 || failed=1
timeout 300 "$python" -m benchmarks gpu "$out" "$@" || failed=1
tail -1 "$out/tests.txt"
exit "$failed"
