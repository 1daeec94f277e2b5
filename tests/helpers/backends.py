"""Opened backends, shared by tests."""

from functools import cache
from unittest.mock import patch

import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import Backend
from tests.helpers.paths import ROOT


@cache
def opened(kind: tuple[str, str], scale: int) -> Backend:
    """Return the backend for a pair of backend and precision, opened once in a test run."""
    backend, precision = kind
    if backend == "torch":
        pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    checkpoint = ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors"
    model = checkpoint if backend == "torch" else scale
    # With fp32 around INT8; tests/backends/test_openvino.py has tiles with bf16 around it.
    with patch("hfdn_deploy.backends.openvino._has_bf16", return_value=False):
        return Upscaler.load(model, backend, precision, tile=None).backend
