"""DLPack against NumPy's and PyTorch's own, on the CPU: the layout is that of every device."""

import gc
import weakref

import numpy as np
import pytest

from hfdn_deploy.cuda import dlpack

CPU = 1, 0


class Lending:
    """An array of ours, as others see it."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **_):
        address = self.array.ctypes.data
        return dlpack.lend(self, address, self.array.shape, self.array.dtype, CPU)

    def __dlpack_device__(self):
        return CPU


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
    assert not dlpack._lent


def test_a_capsule_that_nobody_takes_lets_go():
    lending = Lending(np.zeros(3))
    capsule = lending.__dlpack__()
    assert dlpack._lent
    del capsule
    assert not dlpack._lent


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
