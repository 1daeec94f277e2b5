#!/usr/bin/env bash
# Run everything that needs a GPU, without a network: the tests and the benchmark.
#   scripts/gpu_check.sh WHEELS OUT [--simulate]
# WHEELS is a folder of wheels: hfdn-deploy itself (pip wheel --no-deps .), its dependencies, those of
# the extras gpu and rtx, pytest, hypothesis and scikit-image. They are added to the packages of the
# machine's Python, such as PyTorch. The variable PYTHON names an interpreter other than python3.
# OUT gets doctor.txt, tests.txt, junit.xml, report.md and results.json. A failure does not stop the
# rest, and results in exit code 1. --simulate runs the same on a CPU, with a simulated GPU.
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
    # --no-deps, because dependencies may come from the machine's own packages.
    "$python" -m pip install --quiet --no-index --no-deps --target "$packages" "$wheels"/*.whl || failed=1
fi
export PYTHONPATH="$packages:$PWD${PYTHONPATH:+:$PYTHONPATH}"
"$python" -m hfdn_deploy doctor >"$out/doctor.txt" 2>&1 || failed=1
timeout 180 "$python" -m pytest -m gpu tests/gpu -rA --junitxml="$out/junit.xml" >"$out/tests.txt" 2>&1 || failed=1
timeout 300 "$python" -m benchmarks gpu "$out" "$@" || failed=1
tail -1 "$out/tests.txt"
exit "$failed"
