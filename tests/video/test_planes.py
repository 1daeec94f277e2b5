import numpy as np
import pytest

from hfdn_deploy.video import LAYOUTS, luma_from_network, luma_to_network, resize_chroma


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
def test_luma_survives_the_way_to_the_network_and_back(bits, full):
    codes = np.arange(2**bits, dtype=np.uint8 if bits == 8 else np.uint16)[None]
    luma = luma_to_network(codes, bits, full)
    assert np.array_equal(luma_from_network(luma, bits, full), codes)
    black, white = (0, 2**bits - 1) if full else (16 << (bits - 8), 235 << (bits - 8))
    assert luma[0, [black, white]] == pytest.approx([16 / 255, 235 / 255], abs=1e-6)


def reference_chroma(plane, shape, scale, subsampling, siting):
    """Cubic convolution (a = -0.75), one axis after the other, from positions in luma pixels."""
    result = plane.astype(float)
    for axis, (length, factor, offset) in enumerate(zip(shape, subsampling, siting, strict=True)):
        in_large_luma = factor * np.arange(length) + offset
        in_small_luma = (in_large_luma + 0.5) / scale - 0.5
        position = (in_small_luma - offset) / factor
        left = np.floor(position).astype(int) - 1
        total = 0
        for tap in range(4):
            x = np.abs(position - left - tap)
            a = -0.75
            near, far = (
                ((a + 2) * x - (a + 3)) * x * x + 1,
                ((a * x - 5 * a) * x + 8 * a) * x - 4 * a,
            )
            weight = np.where(x <= 1, near, far)
            index = (left + tap).clip(0, result.shape[axis] - 1)
            shaped = weight[:, None] if axis == 0 else weight
            total = total + shaped * np.take(result, index, axis)
        result = total
    return result


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("format", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_chroma_lies_where_its_luma_lies(format, scale, photo):
    layout = LAYOUTS[format]
    across, down = layout.subsampling
    unit = 1 << (layout.bits - 8)
    plane = (photo[:30, :41, 0].astype(np.uint16) * unit).astype(layout.dtype)
    shape = (scale * plane.shape[0], scale * plane.shape[1] - 1)
    found = resize_chroma(plane, shape, (scale, scale), layout).astype(float)
    # At the left one of its luma samples, vertically between them.
    siting = ((down - 1) / 2, 0)
    expected = reference_chroma(plane, shape, scale, (down, across), siting)
    expected = expected.round().clip(0, 255 * unit)
    assert np.abs(found - expected).max() <= 2 * unit
    assert np.abs(found - expected).mean() < 0.2 * unit
    if across == 2:
        between = reference_chroma(plane, shape, scale, (down, across), ((down - 1) / 2, 0.5))
        assert np.abs(found - between).mean() > 2 * np.abs(found - expected).mean()
