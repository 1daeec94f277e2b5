"""Small graphs that test what the libraries can do on this machine."""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from onnx import helper

from hfdn_deploy.backends.compiled import load_compiled
from hfdn_deploy.backends.openvino_session import core
from hfdn_deploy.graph import tiny_model

_ALL_255 = np.full((1, 48, 8, 8), 255, np.uint8)


@cache
def eight_bit_products_saturate() -> bool:
    """Return whether ONNX Runtime's 8-bit convolution is inexact here, as on x86 without VNNI.

    There, sums of two products are clipped to 16 bits. The test convolution has the largest ones.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(_largest_products(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": _ALL_255})
    return bool((y != 200).any())


@cache
def eight_bit_products_saturate_in_openvino() -> bool:
    """Return the same for OpenVINO, which has no exact kernels for such CPUs."""
    (y,) = load_compiled(core(), _largest_products(), {})(_ALL_255).to_tuple()
    return bool((y != 200).any())


def import_reason(error: Exception) -> str:
    """Return why ONNX Runtime cannot be imported; before 1.19, with NumPy 2, its error is empty."""
    return str(error) or "no reason given; it may be too old for this NumPy"


def identity() -> bytes:
    """Return the smallest graph that a session can open."""
    one = (np.float32, [1])
    model = tiny_model([helper.make_node("Identity", ["x"], ["y"])], {"x": one}, {"y": one})
    return bytes(model.SerializeToString())


def _largest_products() -> bytes:
    """Return an 8-bit 1×1 convolution of 48 channels whose outputs are 200 for `_ALL_255`."""
    values: dict[str, ArrayLike] = {
        "x_scale": np.float32(1),
        "x_zero": np.uint8(0),
        "w": np.full((48, 48, 1, 1), 127, np.int8),
        "w_scale": np.float32(1),
        "w_zero": np.int8(0),
        "y_scale": np.float32(48 * 255 * 127 / 200),
        "y_zero": np.uint8(0),
    }
    node = helper.make_node("QLinearConv", ["x", *values], ["y"])
    levels = (np.uint8, _ALL_255.shape)
    model = tiny_model([node], {"x": levels}, {"y": levels}, values)
    return bytes(model.SerializeToString())
