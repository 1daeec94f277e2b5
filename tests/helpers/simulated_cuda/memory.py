"""Simulated memory: device addresses that are never reused, and page-locked memory."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Unwritten memory reads as NaN in every floating-point type.
_POISON = 0xFF
_ALIGNMENT = 512


@dataclass(eq=False)
class Block:
    """An allocation."""

    pointer: int
    size: int
    pinned: bool
    context: int

    @cached_property
    def data(self) -> NDArray[np.uint8]:
        """The bytes of the block; device memory takes host memory only when used."""
        return np.full(self.size, _POISON, np.uint8)


@dataclass(frozen=True)
class Span:
    """Bytes that work reads or writes."""

    pointer: int
    size: int

    def overlaps(self, other: "Span") -> bool:
        """Return whether the spans share a byte."""
        return (
            self.pointer < other.pointer + other.size and other.pointer < self.pointer + self.size
        )


class Memory:
    """All allocations of a simulated GPU."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.device: dict[int, Block] = {}
        self.pinned: dict[int, Block] = {}
        # Keeps freed page-locked memory readable by the host, filled with poison.
        self._freed: list[Block] = []
        self._next = 1 << 48  # addresses that the host does not use

    @property
    def used(self) -> int:
        """Allocated bytes on the device."""
        return sum(block.size for block in self.device.values())

    def allocate(self, size: int, context: int, *, pinned: bool) -> int | None:
        """Return the address of new memory, or None if the device does not have enough."""
        if pinned:
            block = Block(0, size, pinned, context)
            block.pointer = block.data.ctypes.data
            self.pinned[block.pointer] = block
            return block.pointer
        if self.used + size > self.total:
            return None
        pointer = self._next
        self._next += -(-size // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT
        self.device[pointer] = Block(pointer, size, pinned, context)
        return pointer

    def free(self, pointer: int, *, pinned: bool) -> Block | None:
        """Free memory and return its block, or None if there is no such allocation."""
        block = (self.pinned if pinned else self.device).pop(pointer, None)
        if block and pinned:
            block.data[:] = _POISON
            self._freed.append(block)
        return block

    def find(self, span: Span) -> Block | None:
        """Return the allocation that contains the whole span, if any."""
        for block in chain(self.device.values(), self.pinned.values()):
            if block.pointer <= span.pointer and (
                span.pointer + span.size <= block.pointer + block.size
            ):
                return block
        return None

    def view(self, span: Span) -> NDArray[np.uint8]:
        """Return a view of the bytes.

        Raises:
            LookupError: the bytes were freed, or do not belong to one allocation.
        """
        block = self.find(span)
        if block is None:
            raise LookupError(f"{span.size} bytes at {span.pointer:#x} are not allocated")
        start = span.pointer - block.pointer
        return block.data[start : start + span.size]

    def array(self, span: Span, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Return an array that shares the bytes."""
        array: NDArray[Any] = self.view(span).view(dtype).reshape(shape)
        return array
