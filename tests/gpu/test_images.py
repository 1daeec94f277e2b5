"""Upscaling of RGB images on a GPU, from host arrays and from device arrays."""

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")

from hfdn_deploy import Upscaler, cuda
from hfdn_deploy.bench import photographs
from hfdn_deploy.errors import InputError
from tests.helpers.gpu import SIZE, real_gpu, skip_without
from tests.helpers.on_device import OnDevice, on_host

pytestmark = pytest.mark.gpu
REAL = real_gpu() is not None
# With a small network on a simulated GPU, which only runs engines of bundles.
BACKENDS = ("tensorrt", "cuda", "rtx-ep", "torch-cuda")


@pytest.fixture(params=BACKENDS)
def up(request, small_bundles):
    if request.param != "tensorrt" and not REAL:
        pytest.skip("only engines run on a simulated GPU")
    skip_without(request.param)
    with Upscaler.load(4 if REAL else small_bundles[4], request.param, "fp32") as up:
        yield up


@pytest.fixture
def image():
    return photographs()["coffee"][: SIZE[0], : SIZE[1]].copy()


@pytest.fixture
def expected(small_bundles, image):
    with Upscaler.load(4 if REAL else small_bundles[4], "onnxruntime", "fp32") as up:
        return up(image)


def check(result, expected):
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    assert np.abs(result.astype(int) - expected).max() <= 1


class ByDlpack:
    """A device array that offers DLPack only, as TensorFlow's do."""

    def __init__(self, array):
        self._array = array
        self.asked = []

    def __dlpack__(self, stream):
        self.asked.append(stream)
        address = self._array.__cuda_array_interface__["data"][0]
        view = cuda.DeviceView(self._array, address, self._array.shape, np.dtype(np.uint8), 0)
        return view.__dlpack__()

    def __dlpack_device__(self):
        return 2, 0


def test_bytes_cross_the_bus(up, image, expected, gpu, monkeypatch):
    if up.backend.name != "tensorrt":
        pytest.skip("what others do is theirs")
    copied, call = [], cuda.call

    def noted(function, *arguments):
        if function == "cudaMemcpyAsync":
            copied.append(arguments[2])
        return call(function, *arguments)

    monkeypatch.setattr(cuda, "call", noted)
    for _ in range(3):  # enqueued, captured, replayed
        check(up(image), expected)
    if gpu:
        assert gpu.calls.count("cudaGraphLaunch") == 2
    assert copied == 3 * [image.nbytes, expected.nbytes]


def test_images_of_one_size_go_one_by_one_where_the_engine_takes_one(up, image, expected):
    for result in up.batch([image, image]):
        check(result, expected)


def test_results_lie_in_memory_that_is_used_again(up, image, expected):
    if up.backend.name != "tensorrt":
        pytest.skip("what others do is theirs")
    kept = up(image)
    places = {up(image).ctypes.data for _ in range(5)}
    assert len(places) == 1
    assert kept.ctypes.data not in places
    many = [up(image) for _ in range(cuda.HELD + 4)]
    for result in (kept, *many):
        check(result, expected)


@pytest.mark.parametrize("kind", [lambda x: x, ByDlpack], ids=["interface", "DLPack"])
def test_an_image_on_the_device_stays_there(up, image, expected, kind):
    given = kind(OnDevice(image))
    result = up(given)
    assert cuda.is_device_array(result)
    check(on_host(result), expected)
    if isinstance(given, ByDlpack):
        assert given.asked == [cuda.LEGACY_STREAM]
    # Other libraries can take the result.
    assert result.__dlpack_device__() == (2, 0)
    taken = cuda.as_device_array(ByDlpack(result))
    check(on_host(taken), expected)


@pytest.mark.parametrize("named", [True, False])
def test_work_of_others_on_an_image_is_waited_for(up, image, expected, named):
    """Waits for the named stream, or for all streams if the protocol is too old to name one."""
    stream = cuda.call("cudaStreamCreateWithFlags", 1)
    interface = {"stream": int(stream)} if named else {"version": 2}
    given = OnDevice(np.zeros_like(image), **interface)
    buffer = cuda.Buffer(pinned=True)
    source = buffer.array(image.shape, image.dtype)
    source[...] = image
    kind = cuda.member("cudaMemcpyKind", "cudaMemcpyHostToDevice")
    place = given.__cuda_array_interface__["data"][0]
    cuda.call("cudaMemcpyAsync", place, source.ctypes.data, source.nbytes, kind, stream)
    check(on_host(up(given)), expected)
    buffer.close()
    cuda.call("cudaStreamDestroy", stream)


def test_an_image_with_gaps_is_refused(up, image):
    height, width, channels = image.shape
    strides = (2 * width * channels, channels, 1)
    with pytest.raises(InputError, match="with gaps; give a contiguous uint8 array"):
        up(OnDevice(image, shape=(height // 2, width, channels), strides=strides))


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda x: x[..., 0].copy(), {}),
        (lambda x: x.astype(np.float32), {}),
        (lambda x: np.dstack([x, x[..., 0]]), {}),
        (lambda x: x, {"scale": 3}),
    ],
    ids=["grey", "floats", "alpha", "resized"],
)
def test_what_does_not_go_from_pixels_to_pixels_must_come_from_the_host(up, image, change, options):
    with pytest.raises(
        InputError, match=r"on a device to this size .*; give uint8 RGB \(H, W, 3\)"
    ):
        up(OnDevice(change(image)), **options)


def test_a_backend_on_the_cpu_takes_nothing_from_a_device(image, gpu):
    given = OnDevice(image)
    with (
        Upscaler.load(2, "onnxruntime") as up,
        pytest.raises(InputError, match="onnxruntime cannot read an image on a device; copy it"),
    ):
        up(given)
