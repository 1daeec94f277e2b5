"""The simulated GPU has the real functions' signatures and reports undefined use."""

import inspect

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")

from cuda.bindings import driver, runtime

from hfdn_deploy import cuda
from hfdn_deploy.cuda import CudaError
from tests.helpers.simulated_cuda import Driver, Runtime, simulated_gpu
from tests.helpers.simulated_cuda.replace import functions, results

NON_BLOCKING = 1
THREAD_LOCAL = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
GLOBAL = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeGlobal
TO_DEVICE = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
TO_HOST = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
REAL = functions(runtime, "cuda") | functions(driver, "cu")
SIMULATED = [
    function
    for double in (Runtime, Driver)
    for name, function in vars(double).items()
    if name.startswith(double.prefix) and not name.endswith("ErrorString")
]


@pytest.fixture
def gpu():
    with simulated_gpu() as gpu:
        yield gpu


def stream():
    return cuda.call("cudaStreamCreateWithFlags", NON_BLOCKING)


def pinned(*values):
    array = cuda.Buffer(pinned=True).array((len(values),), np.dtype(np.float32))
    array[:] = values
    return array


def copy(target, source, size, kind, on):
    cuda.call("cudaMemcpyAsync", target, source, size, kind, on)


def status_of(function, *arguments):
    with pytest.raises(CudaError) as caught:
        cuda.call(function, *arguments)
    return caught.value.status


@pytest.mark.parametrize("function", SIMULATED, ids=lambda function: function.__name__)
def test_signatures_are_the_real_ones(function):
    real = REAL[function.__name__]
    _, *own = inspect.signature(function).parameters
    assert own == list(inspect.signature(real).parameters)
    returned = inspect.signature(function).return_annotation
    several = getattr(returned, "__args__", (returned,) * (returned is not None))
    assert len(several) == len(results(real)), returned


@pytest.mark.parametrize("name", ["cudaMallocAsync", "cudaStreamCreate", "cuMemAlloc"])
def test_the_other_functions_are_refused(gpu, name):
    with pytest.raises(NotImplementedError, match=name):
        (REAL | vars(runtime) | vars(driver))[name](1)


def test_a_copy_is_done_when_its_stream_is_waited_for(gpu):
    one, other = stream(), stream()
    source, place, target = pinned(1, 2), cuda.call("cudaMalloc", 8), pinned(0, 0)
    copy(place, source.ctypes.data, 8, TO_DEVICE, one)
    copy(target.ctypes.data, place, 8, TO_HOST, one)
    cuda.call("cudaStreamSynchronize", other)
    assert target.tolist() == [0, 0]
    source[:] = 3, 4
    cuda.call("cudaStreamSynchronize", one)
    assert target.tolist() == [3, 4]
    assert gpu.violations == []


@pytest.mark.parametrize("waits", [True, False])
def test_work_that_does_not_wait_for_another_stream_is_a_violation(gpu, waits):
    one, other, event = stream(), stream(), cuda.call("cudaEventCreate")
    source, place, target = pinned(1), cuda.call("cudaMalloc", 4), pinned(0)
    copy(place, source.ctypes.data, 4, TO_DEVICE, one)
    cuda.call("cudaEventRecord", event, one)
    if waits:
        cuda.call("cudaStreamWaitEvent", other, event, 0)
    copy(target.ctypes.data, place, 4, TO_HOST, other)
    cuda.call("cudaStreamSynchronize", other)
    assert (target[0] == 1) == waits
    assert len(gpu.violations) == 1 - waits


def test_an_event_has_its_time_when_it_is_over(gpu):
    on, begun, ended = stream(), cuda.call("cudaEventCreate"), cuda.call("cudaEventCreate")
    assert status_of("cudaEventElapsedTime", begun, ended) == "cudaErrorInvalidResourceHandle"
    for event in (begun, ended):
        cuda.call("cudaEventRecord", event, on)
    assert status_of("cudaEventElapsedTime", begun, ended) == "cudaErrorNotReady"
    cuda.call("cudaEventSynchronize", ended)
    assert cuda.call("cudaEventElapsedTime", begun, ended) > 0


def test_a_graph_reads_memory_when_it_is_replayed(gpu):
    on = stream()
    source, place, target = pinned(1), cuda.call("cudaMalloc", 4), pinned(0)
    cuda.call("cudaStreamBeginCapture", on, THREAD_LOCAL)
    copy(place, source.ctypes.data, 4, TO_DEVICE, on)
    copy(target.ctypes.data, place, 4, TO_HOST, on)
    graph = cuda.call("cudaGraphInstantiate", cuda.call("cudaStreamEndCapture", on), 0)
    for value in (5, 6):
        source[:] = value
        cuda.call("cudaGraphLaunch", graph, on)
        assert target[0] != value
        cuda.call("cudaStreamSynchronize", on)
        assert target[0] == value


@pytest.mark.parametrize(
    ("mode", "call"),
    [
        (THREAD_LOCAL, ("cudaDeviceSynchronize",)),
        (THREAD_LOCAL, ("cudaMalloc", 4)),
        (GLOBAL, ("cudaFree", 0)),
        (THREAD_LOCAL, ("cudaStreamSynchronize", "capturing")),
        (THREAD_LOCAL, ("cudaStreamWaitEvent", "capturing", "event", 0)),
    ],
)
def test_a_call_that_a_capture_forbids_fails_and_ends_it(gpu, mode, call):
    on, event = stream(), cuda.call("cudaEventCreate")
    cuda.call("cudaStreamBeginCapture", on, mode)
    named = {"capturing": on, "event": event}
    function, *arguments = (named.get(part, part) for part in call)
    assert status_of(function, *arguments).startswith("cudaErrorStreamCapture")
    assert status_of("cudaEventRecord", event, on) == "cudaErrorStreamCaptureInvalidated"
    assert status_of("cudaStreamEndCapture", on) == "cudaErrorStreamCaptureInvalidated"
    assert gpu.leaks() == {"streams": 1, "events": 1}


def test_memory_is_bounded_and_not_used_when_it_was_freed(gpu):
    on, source = stream(), pinned(*range(64))
    free, total = cuda.call("cudaMemGetInfo")
    place = cuda.call("cudaMalloc", 128)
    assert cuda.call("cudaMemGetInfo") == (free - 128, total)
    assert status_of("cudaMalloc", total) == "cudaErrorMemoryAllocation"
    long = ("cudaMemcpyAsync", place, source.ctypes.data, 129, TO_DEVICE, on)
    assert status_of(*long) == "cudaErrorInvalidValue"
    copy(place, source.ctypes.data, 128, TO_DEVICE, on)
    assert len(gpu.violations) == 1
    cuda.call("cudaFree", place)
    assert "memory that cudaMemcpyHostToDevice is about to use is freed" in gpu.violations[1]
    cuda.call("cudaStreamSynchronize", on)
    assert "are not allocated" in gpu.violations[2]
    assert cuda.call("cudaMalloc", 128) != place


def test_a_stream_belongs_to_its_context(gpu):
    on = stream()
    gpu.contexts.add(0xABC)
    with cuda.context(driver.CUcontext(0xABC)):
        assert status_of("cudaStreamSynchronize", on) == "cudaErrorInvalidResourceHandle"
    cuda.call("cudaStreamSynchronize", on)


@pytest.mark.parametrize("sticky", [True, False])
def test_a_call_fails_once_or_for_good(gpu, sticky):
    gpu.fail(2, sticky=sticky)
    assert cuda.call("cudaGetDeviceCount") == 1
    expected = "cudaErrorIllegalAddress" if sticky else "cudaErrorMemoryAllocation"
    assert status_of("cudaMalloc", 4) == expected
    if sticky:
        assert status_of("cudaGetDeviceCount") == expected
    else:
        assert cuda.call("cudaGetDeviceCount") == 1
        assert gpu.leaks() == {}
