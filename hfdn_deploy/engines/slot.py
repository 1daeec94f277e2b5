"""Resources of one image in flight: a stream, buffers, and contexts and graphs by shape."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.engines.bindings import IExecutionContext

# Number of shapes whose contexts and graphs a slot keeps: that of a frame and a few of tiles.
SHAPES = 8

ArrayKind = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype."""


def create(made: ExitStack, kind: str, *arguments: Any) -> Any:
    """Create a CUDA stream or event that is destroyed when `made` is closed.

    Args:
        made: stack of resources to free later.
        kind: "Stream" or "Event".
        arguments: flags of its creation.
    """
    handle = cuda.call(f"cuda{kind}Create{'WithFlags' * bool(arguments)}", *arguments)
    made.callback(cuda.call, f"cuda{kind}Destroy", handle)
    return handle


@dataclass
class Inference:
    """The execution context, used by nothing else, and the graph of one shape in one slot."""

    context: IExecutionContext
    graph: Any | None = None
    runs: int = 0
    """Number of runs between the slot's own buffers."""

    def drop_graph(self) -> None:
        """Free the graph, which must not be running."""
        graph, self.graph, self.runs = self.graph, None, 0
        if graph is not None:
            cuda.call("cudaGraphExecDestroy", graph)


class Slot:
    """One image in flight, in the CUDA context in which it was made."""

    def __init__(self, inputs: int, made: ExitStack) -> None:
        """Make a slot for a number of inputs and one output, freed when `made` is closed."""
        self.stream = create(made, "Stream", 1)  # cudaStreamNonBlocking
        self._legacy = create(made, "Event")
        self._host, self._device = (
            [cuda.Buffer(pinned) for _ in range(inputs)] for pinned in (True, False)
        )
        self.output = cuda.Buffer()
        for buffer in (*self._host, *self._device, self.output):
            made.callback(buffer.close)
        self._inferences: OrderedDict[tuple[int, ...], Inference] = OrderedDict()
        made.callback(self.forget)

    def reserve(self, kinds: Sequence[ArrayKind], output: int = 0) -> list[NDArray[Any]]:
        """Reserve memory, and return page-locked arrays for the inputs.

        The inputs get the same amount of device memory. If any address changes, all graphs of the
        slot are dropped.

        Args:
            kinds: shapes and dtypes of the inputs.
            output: bytes of device memory for the output; 0 if the slot does not hold it.
        """
        buffers = *self._host, *self._device, self.output
        before = [buffer.pointer for buffer in buffers]
        try:
            arrays = []
            for host, device, kind in zip(self._host, self._device, kinds, strict=True):
                arrays.append(host.array(*kind))
                device.reserve(arrays[-1].nbytes)
            self.output.reserve(output)
            return arrays
        finally:
            if before != [buffer.pointer for buffer in buffers]:
                with ExitStack() as each:
                    for inference in self._inferences.values():
                        each.callback(inference.drop_graph)

    @property
    def sources(self) -> list[int]:
        """Addresses of the inputs on the device."""
        return [buffer.pointer for buffer in self._device]

    def copy(self, target: int, source: int, size: int, direction: str) -> None:
        """Enqueue a copy; `direction` is "HostToDevice" or "DeviceToHost"."""
        kind = cuda.member("cudaMemcpyKind", f"cudaMemcpy{direction}")
        cuda.call("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def wait_for_legacy(self) -> None:
        """Make the stream wait for the pending work on the legacy default stream."""
        cuda.call("cudaEventRecord", self._legacy, cuda.LEGACY_STREAM)
        cuda.call("cudaStreamWaitEvent", self.stream, self._legacy, 0)

    def find(self, shape: tuple[int, ...]) -> Inference | None:
        """Return the inference kept for a shape, if any, and mark it as the newest."""
        if shape in self._inferences:
            self._inferences.move_to_end(shape)
        return self._inferences.get(shape)

    def keep(self, shape: tuple[int, ...], inference: Inference) -> None:
        """Keep an inference, and drop the oldest one if there are more than `SHAPES`."""
        self._inferences[shape] = inference
        if len(self._inferences) > SHAPES:
            self._inferences.popitem(last=False)[1].drop_graph()

    def drain(self) -> None:
        """Wait for all pending work.

        Raises:
            CudaError: the wait failed twice; a first error may come late from an earlier call.
        """
        try:
            cuda.call("cudaStreamSynchronize", self.stream)
        except cuda.CudaError:
            cuda.call("cudaStreamSynchronize", self.stream)

    def forget(self) -> None:
        """Drop all contexts and graphs after the stream has finished."""
        with ExitStack() as each:
            each.callback(self._inferences.clear)
            for inference in self._inferences.values():
                each.callback(inference.drop_graph)
            self.drain()
