"""Device arrays of other libraries, shortage of memory, and effects of a real GPU."""

import time

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")

from hfdn_deploy import Upscaler, cuda
from hfdn_deploy.errors import BackendError, InputError
from tests.helpers.gpu import luma, real_gpu, skip_without
from tests.helpers.on_device import OnDevice, on_host

pytestmark = pytest.mark.gpu
REAL = real_gpu() is not None
NON_BLOCKING = 1


@pytest.fixture
def up(small_bundles):
    """Yield an upscaler on an engine of the shipped network, or of a small one if simulated."""
    skip_without("tensorrt")
    model = 4 if REAL else small_bundles[4]
    with Upscaler.load(model, "tensorrt", "fp16" if REAL else "fp32", tile=None) as up:
        yield up


@pytest.fixture
def stream():
    """Yield a stream of another library."""
    stream = cuda.call("cudaStreamCreateWithFlags", NON_BLOCKING)
    yield stream
    cuda.call("cudaStreamDestroy", stream)


def batch(plane):
    return np.ascontiguousarray(plane[None, None])


def copy_late(target, plane, stream):
    """Make a stream fill a device array late; return objects to keep alive until then."""
    buffer = cuda.Buffer(pinned=True)
    source = buffer.array(target.shape, np.dtype(np.float32))
    source[...] = plane
    kind = cuda.member("cudaMemcpyKind", "cudaMemcpyHostToDevice")
    place = target.__cuda_array_interface__["data"][0]
    cuda.call("cudaMemcpyAsync", place, source.ctypes.data, source.nbytes, kind, stream)
    return buffer


def test_arrays_on_the_device_stay_there(up):
    given = OnDevice(batch(luma()))
    result = up.backend.run(given)
    assert cuda.is_device_array(result)
    assert np.abs(on_host(result)[0, 0] - up.upscale_luma(luma())).max() <= 1e-6


@pytest.mark.parametrize("on_device", [True, False])
def test_the_result_goes_where_it_is_asked_to(up, on_device):
    plane = luma()
    expected = up.upscale_luma(plane)
    target = OnDevice(np.full((1, 1, *expected.shape), np.nan, np.float32))
    given = OnDevice(batch(plane)) if on_device else batch(plane)
    assert up.backend.run(given, out=target) is target
    assert np.abs(on_host(target)[0, 0] - expected).max() <= 1e-6


@pytest.mark.parametrize("named", [True, False])
def test_work_of_others_on_an_array_is_waited_for(up, stream, named):
    """Waits for the named stream, or for all streams if the protocol is too old to name one."""
    interface = {"stream": int(stream)} if named else {"version": 2}
    given = OnDevice(batch(np.zeros_like(luma())), **interface)
    kept = copy_late(given, luma(), stream)
    result = on_host(up.backend.run(given))[0, 0]
    assert np.abs(result - up.upscale_luma(luma())).max() <= 1e-6
    kept.close()


def test_work_on_an_array_of_pycuda_is_waited_for(up):
    """PyCUDA names no stream, but its kernels run on the default stream."""
    kind = type("GPUArray", (OnDevice,), {"__module__": "pycuda.gpuarray"})
    plane = luma()
    expected = up.upscale_luma(plane)
    given = kind(batch(np.zeros_like(plane)))
    target = kind(np.zeros((1, 1, *expected.shape), np.float32))
    kept = [
        copy_late(given, plane, cuda.LEGACY_STREAM),
        copy_late(target, np.nan, cuda.LEGACY_STREAM),
    ]
    up.backend.run(given, out=target)
    assert np.abs(on_host(target)[0, 0] - expected).max() <= 1e-6
    for buffer in kept:
        buffer.close()
    ours = up.backend.run(OnDevice(batch(plane)))
    assert up.backend.run(given, out=ours) is ours


def test_an_array_with_nothing_under_way_synchronises_nothing(up, gpu):
    given = OnDevice(batch(luma()))
    up.backend.run(given)
    if gpu:
        gpu.calls.clear()
        up.backend.run(given)
        assert "cudaDeviceSynchronize" not in gpu.calls
        assert gpu.calls.count("cudaStreamSynchronize") == 1


def test_results_take_memory_of_those_that_are_gone(up, gpu):
    given = OnDevice(batch(luma()))
    kept = up.backend.run(given)
    places = {up.backend.run(given).__cuda_array_interface__["data"][0] for _ in range(5)}
    assert len(places) == 1
    assert kept.__cuda_array_interface__["data"][0] not in places
    if gpu:
        gpu.calls.clear()
        up.backend.run(given)
        assert not {"cudaMalloc", "cudaFree"} & set(gpu.calls)


def test_memory_is_not_used_again_before_its_reader_is_done(up):
    """The reader works on the legacy default stream, as PyTorch does."""
    first, second = OnDevice(batch(luma())), OnDevice(batch(1 - luma()))
    result = up.backend.run(first)
    expected = on_host(result)
    buffer = cuda.Buffer(pinned=True)
    copy = buffer.array(expected.shape, expected.dtype)
    place = result.__cuda_array_interface__["data"][0]
    kind = cuda.member("cudaMemcpyKind", "cudaMemcpyDeviceToHost")
    cuda.call("cudaMemcpyAsync", copy.ctypes.data, place, copy.nbytes, kind, cuda.LEGACY_STREAM)
    del result
    assert up.backend.run(second).__cuda_array_interface__["data"][0] == place
    cuda.call("cudaStreamSynchronize", cuda.LEGACY_STREAM)
    assert (copy == expected).all()
    buffer.close()


def test_a_result_outlives_its_backend(small_bundles):
    skip_without("tensorrt")
    with Upscaler.load(4 if REAL else small_bundles[4], "tensorrt", "fp32", tile=None) as up:
        expected = up.upscale_luma(luma())
        result = up.backend.run(OnDevice(batch(luma())))
    assert np.abs(on_host(result)[0, 0] - expected).max() <= 1e-6


def test_a_strided_array_on_the_device_is_refused(up):
    given = OnDevice(np.zeros((1, 1, 20, 20), np.float32), strides=(3200, 3200, 160, 8))
    with pytest.raises(InputError, match="contiguous"):
        up.backend.run(given)


def test_out_of_memory_says_what_would_fit(up):
    # Four runs, so that the graph has been captured.
    small, *_ = [up.upscale_luma(luma(16, 16)) for _ in range(4)]
    plane = np.random.default_rng(0).random((1024, 1024) if REAL else (200, 200), np.float32)
    free, _ = cuda.call("cudaMemGetInfo")
    left = 64 << 20 if REAL else 10 << 20
    hog = cuda.call("cudaMalloc", free - left)
    with pytest.raises(BackendError, match=r"need about \d+ MiB .* tiles of \d+ pixels"):
        up.upscale_luma(plane)
    for _ in range(4):
        assert (up.upscale_luma(luma(16, 16)) == small).all()
    cuda.call("cudaFree", hog)
    assert up.upscale_luma(plane).shape == tuple(4 * side for side in plane.shape)


def test_many_calls_do_not_grow(up):
    calls, warm = (1100, 100) if REAL else (60, 12)
    sizes = [(32, 32), (17, 45), (30, 24)]
    for call in range(calls):
        up.upscale_luma(luma(*sizes[call % 3]))
        if call == warm:
            before, _ = cuda.call("cudaMemGetInfo")
    after, _ = cuda.call("cudaMemGetInfo")
    assert before - after <= (1 << 20 if REAL else 0)


@pytest.mark.real_gpu
def test_the_events_clock_the_computation_alone(up):
    lr = batch(luma())
    shares = []
    for _ in range(20):
        start = time.perf_counter()
        up.backend.run(lr)
        shares.append(up.backend.seconds() / (time.perf_counter() - start))
    small = batch(luma(32, 32))
    large = up.backend.seconds()
    for _ in range(3):
        up.backend.run(small)
    assert 0 < up.backend.seconds() < large
    assert all(0 < share < 1 for share in shares)


@pytest.mark.real_gpu
@pytest.mark.parametrize("backend", ["tensorrt", "cuda"])
def test_arrays_of_pytorch_are_taken(backend):
    torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    skip_without(backend)
    plane = luma()
    with Upscaler.load(4, backend, "fp16") as up:
        expected = up.upscale_luma(plane)
        stream = torch.cuda.Stream()
        given = torch.full((1, 1, *plane.shape), torch.nan, device="cuda")
        source = torch.from_numpy(plane[None, None]).pin_memory()
        with torch.cuda.stream(stream):
            torch.cuda._sleep(200_000_000)
            given.copy_(source, non_blocking=True)
            result = up.backend.run(given)
        got = torch.as_tensor(result, device="cuda")[0, 0].cpu().numpy()
        assert np.abs(got - expected).max() <= 1e-6
        with pytest.raises(InputError, match="contiguous"):
            up.backend.run(torch.zeros(1, 1, 20, 40, device="cuda")[..., ::2])


def test_what_is_freed_during_a_capture_does_not_end_it(small_bundles, monkeypatch):
    """The garbage collector may run at any time and free arrays of other libraries."""
    plane = luma()
    with Upscaler.load(small_bundles[4], "tensorrt", "fp32") as up:
        engine = up.backend._whole._engine
        enqueue, garbage = engine.enqueue, []

        def collect(*arguments):
            garbage.clear()
            enqueue(*arguments)

        monkeypatch.setattr(engine, "enqueue", collect)
        for _ in range(3):
            garbage.append(OnDevice(plane))
            up.upscale_luma(plane)
        slot = up.backend._whole._slots[-1]
        assert slot.find((1, 1, *plane.shape)).graph is not None
