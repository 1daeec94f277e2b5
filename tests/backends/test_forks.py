"""Upscalers in processes that fork after loading them."""

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

pytestmark = pytest.mark.usefixtures("every_core")

CODE = """
import os, sys
import numpy as np
from hfdn_deploy import BackendError, Upscaler

image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
up = Upscaler.load({model!r}, {backend!r})
expected = up(image)
assert np.array_equal(up.submit(image).result(), expected)
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
sys.stdout = open(1, "w", buffering=1, closefd=False)
works = (lambda: up(image), lambda: up.batch(image[None])[0], lambda: up.submit(image).result())
for work in (*works, lambda: up.upscale_luma(np.zeros((5, 6), np.float32))):
    try:
        found = work()
    except BackendError as error:
        print(error)
    else:
        print(found.dtype == np.float32 or np.array_equal(found, expected))
up.close()
os._exit(0)
"""


@pytest.mark.parametrize(
    "backend", ["onnxruntime", "openvino", pytest.param("torch", marks=pytest.mark.slow)]
)
def test_what_would_hang_is_refused(backend):
    if backend == "torch":
        pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    model = str(ROOT / "checkpoints" / "hfdn_x2.safetensors") if backend == "torch" else 2
    code = CODE.format(model=model, backend=backend)
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    refused = f"{backend} was opened before this process forked; load it in the worker."
    run = refused if backend == "torch" else "True"
    assert ran.stdout.splitlines() == [run, run, refused, run], ran.stderr
    assert ran.returncode == 0
