"""Baseline for our INT8: the same fp32 graph, quantised by ONNX Runtime's own quantiser."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.calibration import load_pictures
from hfdn_deploy.bundle import Bundle

# The quantiser's options: for TensorRT as documented, for CPUs the defaults.
OPTIONS: dict[str, dict[str, Any]] = {
    "int8": {
        "activation_type": QuantType.QInt8,
        "op_types_to_quantize": ["Conv", "ConvTranspose"],
        "extra_options": {
            "ActivationSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose"],
        },
    },
    "int8-cpu": {"activation_type": QuantType.QUInt8},
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Sequence[NDArray[np.float32]], name: str) -> None:
        self._feeds = iter([{name: lr} for lr in pictures])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._feeds, None)


@cache
def int8_graphs(bundle: Bundle) -> dict[str, bytes]:
    """Return, by name, the INT8 graphs that the package does not run on this CPU."""
    pictures = [pair.lr for pair in load_pictures(None, bundle.manifest.scale).calibration]
    full = bundle.read_model("fp32")
    return {
        "HFDN int8 for TensorRT": bundle.read_model("int8"),
        "quantize_static": quantize_plainly(full, "int8-cpu", pictures),
        "quantize_static for TensorRT": quantize_plainly(full, "int8", pictures),
    }


def quantize_plainly(full: bytes, dialect: str, pictures: Sequence[NDArray[np.float32]]) -> bytes:
    """Quantise a graph by `onnxruntime.quantization.quantize_static`, per channel, min-max.

    Args:
        full: an fp32 ONNX file.
        dialect: "int8" (for TensorRT) or "int8-cpu".
        pictures: calibration inputs (1, 1, H, W) in [0, 1].
    """
    with TemporaryDirectory() as folder:
        source, prepared, result = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        source.write_bytes(full)
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            result,
            _Reader(pictures, onnx.load(source).graph.input[0].name),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            **OPTIONS[dialect],
        )
        return result.read_bytes()
