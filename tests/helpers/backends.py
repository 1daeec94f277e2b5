"""Opened backends, shared by tests."""

from functools import cache
from unittest.mock import patch

import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import Backend
from tests.helpers.paths import ROOT


@cache
def opened(kind: tuple[str, str], scale: int) -> Backend:
    """Return the backend for a pair (backend, precision), opened once per test run."""
    backend, precision = kind
    if backend == "torch":
        pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    checkpoint = ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors"
    model = checkpoint if backend == "torch" else scale
    # Layers outside INT8 use fp32 here; tests/backends/test_openvino.py tests tiles with bf16.
    with patch("hfdn_deploy.backends.openvino._has_bf16", return_value=False):
        return Upscaler.load(model, backend, precision, tile=None).backend
