"""What one image in flight needs: a stream, buffers, and what is kept for the shapes that came."""

from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import cuda
from hfdn_deploy.engines.bindings import IExecutionContext

# Shapes that each slot keeps a context and a graph for: a frame size, and the few of tiles.
SHAPES = 8

ArrayKind = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and dtype."""


def create(made: ExitStack, kind: str, *arguments: Any) -> Any:
    """A stream or an event of CUDA that is destroyed with `made`.

    Args:
        made: what is to be freed later.
        kind: "Stream" or "Event".
        arguments: flags.
    """
    handle = cuda.call(f"cuda{kind}Create{'WithFlags' * bool(arguments)}", *arguments)
    made.callback(cuda.call, f"cuda{kind}Destroy", handle)
    return handle


@dataclass
class Inference:
    """Inputs of one shape in one slot: a context that nothing else uses, and its graph."""

    context: IExecutionContext
    graph: Any | None = None
    runs: int = 0
    """Between the slot's own buffers."""

    def drop_graph(self) -> None:
        """Free the graph, which must not be under way."""
        graph, self.graph, self.runs = self.graph, None, 0
        if graph is not None:
            cuda.call("cudaGraphExecDestroy", graph)


class Slot:
    """One image in flight, in the CUDA context in which it was made."""

    def __init__(self, inputs: int, made: ExitStack) -> None:
        """Make a slot for so many inputs and one output, to be freed with `made`."""
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
        """Page-locked arrays for the inputs, with as much device memory, and some for the output.

        The graphs go if any of it lies elsewhere than before.

        Args:
            kinds: of the inputs.
            output: bytes of the output; 0 if it goes elsewhere.
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
        """Where the inputs lie on the device."""
        return [buffer.pointer for buffer in self._device]

    def copy(self, target: int, source: int, size: int, direction: str) -> None:
        """Enqueue a copy; `direction` is "HostToDevice" or "DeviceToHost"."""
        kind = cuda.member("cudaMemcpyKind", f"cudaMemcpy{direction}")
        cuda.call("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def wait_for_legacy(self) -> None:
        """Let the stream wait for all that is under way on the legacy default stream."""
        cuda.call("cudaEventRecord", self._legacy, cuda.LEGACY_STREAM)
        cuda.call("cudaStreamWaitEvent", self.stream, self._legacy, 0)

    def find(self, shape: tuple[int, ...]) -> Inference | None:
        """What is kept for a shape, which becomes the newest."""
        if shape in self._inferences:
            self._inferences.move_to_end(shape)
        return self._inferences.get(shape)

    def keep(self, shape: tuple[int, ...], inference: Inference) -> None:
        """Keep an inference; where there are too many, the oldest goes."""
        self._inferences[shape] = inference
        if len(self._inferences) > SHAPES:
            self._inferences.popitem(last=False)[1].drop_graph()

    def drain(self) -> None:
        """Wait for all that is under way.

        Raises:
            CudaError: twice; the first may be that of an earlier call, reported late.
        """
        try:
            cuda.call("cudaStreamSynchronize", self.stream)
        except cuda.CudaError:
            cuda.call("cudaStreamSynchronize", self.stream)

    def forget(self) -> None:
        """Drop all contexts and graphs, once the stream is done with them."""
        with ExitStack() as each:
            each.callback(self._inferences.clear)
            for inference in self._inferences.values():
                each.callback(inference.drop_graph)
            self.drain()
