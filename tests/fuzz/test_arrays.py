import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hfdn_deploy import InputError, Upscaler
from tests.helpers.profiles import fuzz

GOOD = ("uint8", "uint16", "float32")


@st.composite
def arrays(draw) -> np.ndarray:
    """Draw a small array of any dtype, shape and layout, rarely with NaN or infinities."""
    dtype = draw(st.one_of(st.sampled_from([">u2", ">f4", *GOOD]), hnp.scalar_dtypes()))
    shape = draw(
        st.one_of(
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)),
            hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
        )
    )
    if np.dtype(dtype).name == "float32" and draw(st.booleans()):
        image = draw(hnp.arrays(dtype, shape, elements=st.floats(0, 1, width=32)))
    else:
        image = draw(hnp.arrays(dtype, shape))
    for axis in range(image.ndim):
        step = draw(st.sampled_from([1, 1, -1, 2]))
        image = image[(slice(None),) * axis + (slice(None, None, step),)]
    if image.ndim > 1 and draw(st.booleans()):
        image = image.swapaxes(0, 1)
    image.setflags(write=draw(st.booleans()) and image.flags.writeable)
    return image


@pytest.fixture(scope="module")
def upscaler():
    with Upscaler.load(2) as up:
        yield up


@fuzz(2500)
@given(image=arrays())
def test_any_array_is_upscaled_or_an_input_error(upscaler, image):
    before = image.copy()
    try:
        big = upscaler(image)
    except InputError:
        shape_is_good = image.ndim in (2, 3) and 0 not in image.shape
        shape_is_good = shape_is_good and (image.ndim == 2 or image.shape[2] <= 4)
        values = image.dtype.name != "float32" or bool(((image >= 0) & (image <= 1)).all())
        assert not (shape_is_good and image.dtype.name in GOOD and values)
        return
    height, width = image.shape[:2]
    assert big.shape == (2 * height, 2 * width, *image.shape[2:])
    assert big.dtype == image.dtype
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(big, upscaler(np.ascontiguousarray(image)))
    if image.dtype.kind == "f":
        assert 0 <= big.min() <= big.max() <= 1
