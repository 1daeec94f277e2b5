"""DLPack compared with NumPy and PyTorch on the CPU; the layout is the same on all devices."""

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest

from hfdn_deploy import cuda
from hfdn_deploy.cuda import dlpack
from hfdn_deploy.errors import InputError
from tests.helpers.paths import ROOT

CPU = 1, 0


class Lending:
    """An array of ours as other libraries see it."""

    def __init__(self, array, device=CPU):
        self.array, self.device = array, device

    def __dlpack__(self, **_):
        address = self.array.ctypes.data
        return dlpack.lend(self, address, self.array.shape, self.array.dtype, self.device)

    def __dlpack_device__(self):
        return self.device


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (7,), (1, 1, 1, 3)])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_others_take_what_is_lent(library, dtype, shape):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    lending = Lending(array)
    gone = weakref.ref(lending)
    taken = pytest.importorskip(library, exc_type=ModuleNotFoundError).from_dlpack(lending)
    assert str(taken.dtype).endswith(dtype)
    np.testing.assert_array_equal(np.asarray(taken), array)
    array[(0,) * len(shape)] = 9  # the same memory
    assert np.asarray(taken).flat[0] == 9
    del lending
    gc.collect()
    assert gone() is not None
    del taken
    gc.collect()
    assert gone() is None


def test_a_capsule_that_nobody_takes_lets_go():
    lending = Lending(np.zeros(3))
    gone = weakref.ref(lending)
    capsule = lending.__dlpack__()
    del lending
    assert gone() is not None
    del capsule
    assert gone() is None


def test_who_cannot_take_it_says_so_and_lets_go():
    lending = Lending(np.zeros(3), (2, 0))
    gone = weakref.ref(lending)
    with pytest.raises((RuntimeError, BufferError), match=r"(?i)device"):
        np.from_dlpack(lending)
    del lending
    gc.collect()
    assert gone() is None


def test_what_is_lent_may_outlive_the_interpreter():
    pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    code = """
import sys, torch, numpy as np
from tests.cuda.test_dlpack import Lending
class Kept:
    tensor = torch.from_dlpack(Lending(np.arange(6.0)))
sys.kept = Lending(np.arange(6.0)).__dlpack__()
"""
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_what_others_lend_is_taken(library):
    module = pytest.importorskip(library, exc_type=ModuleNotFoundError)
    array = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    theirs = array if library == "numpy" else module.from_numpy(array)
    for view, shape, strides in (
        (theirs, (4, 5, 3), (15, 3, 1)),
        (theirs[1:, ::2], (3, 3, 3), (15, 6, 1)),
    ):
        taken = dlpack.Taken(view.__dlpack__())
        interface = taken.__cuda_array_interface__
        assert (taken.shape, taken.strides or strides, taken.device) == (shape, strides, CPU)
        assert interface["typestr"] == "|u1"
        assert interface["data"][0] == np.asarray(view).ctypes.data


class Odd:
    """A device array of a library with a broken protocol."""

    def __init__(self, interface):
        self.__cuda_array_interface__ = interface


@pytest.mark.parametrize(
    "interface",
    [None, {}, {"shape": (1,), "typestr": "zz", "data": (1, False)}, {"shape": (1,)}],
)
def test_what_is_no_array_is_one_sentence(interface):
    with pytest.raises(InputError, match=r"cannot be taken \(.*; copy it to the host\."):
        cuda.as_device_array(Odd(interface))


def test_what_lies_elsewhere_than_it_says_is_refused():
    elsewhere = type("Elsewhere", (Lending,), {"__dlpack_device__": lambda self: (2, 0)})
    with pytest.raises(InputError, match="is not on the CUDA device; copy it to the host"):
        cuda.as_device_array(elsewhere(np.zeros(3)))


@pytest.mark.parametrize(
    ("shape", "strides", "taken"),
    [
        ((1, 5, 3), (1, 3, 1), True),
        ((2, 5, 3), [15, 3, 1], True),
        ((2, 5, 3), (30, 3, 1), False),
        ((2, 5, 3), None, True),
    ],
)
def test_gaps_are_of_axes_that_have_steps(shape, strides, taken):
    interface = {"shape": shape, "typestr": "|u1", "data": (64, False), "strides": strides}
    given = Odd({**interface, "version": 3})
    if taken:
        assert cuda.borrow(given, shape, np.dtype(np.uint8)) == 64
        return
    with pytest.raises(InputError, match="with gaps"):
        cuda.borrow(given, shape, np.dtype(np.uint8))


def test_the_owner_is_told_when_what_was_taken_goes():
    lending = Lending(np.zeros(3))
    gone = weakref.ref(lending)
    taken = dlpack.Taken(lending.__dlpack__())
    del lending
    gc.collect()
    assert gone() is not None
    del taken
    gc.collect()
    assert gone() is None
