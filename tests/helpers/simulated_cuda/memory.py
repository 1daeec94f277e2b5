"""Simulated memory: device addresses that are never used twice, and page-locked memory."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A read of what nobody wrote gives NaN in every floating-point type.
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
        """Its bytes; memory on the device takes none of the host's until it is used."""
        return np.full(self.size, _POISON, np.uint8)


@dataclass(frozen=True)
class Span:
    """Bytes that work reads or writes."""

    pointer: int
    size: int

    def overlaps(self, other: "Span") -> bool:
        """Whether they share a byte."""
        return (
            self.pointer < other.pointer + other.size and other.pointer < self.pointer + self.size
        )


class Memory:
    """All allocations of a simulated GPU."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.device: dict[int, Block] = {}
        self.pinned: dict[int, Block] = {}
        # The host may still touch page-locked memory that was freed; it then finds poison.
        self._freed: list[Block] = []
        self._next = 1 << 48  # where the host has no memory

    @property
    def used(self) -> int:
        """Bytes of the device that are allocated."""
        return sum(block.size for block in self.device.values())

    def allocate(self, size: int, context: int, *, pinned: bool) -> int | None:
        """Return the address of new memory; None if the device has not so much."""
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
        """Free memory; returns what it was, None if there is no such allocation."""
        block = (self.pinned if pinned else self.device).pop(pointer, None)
        if block and pinned:
            block.data[:] = _POISON
            self._freed.append(block)
        return block

    def find(self, span: Span) -> Block | None:
        """The allocation that bytes lie in, all of them."""
        for block in chain(self.device.values(), self.pinned.values()):
            if block.pointer <= span.pointer and (
                span.pointer + span.size <= block.pointer + block.size
            ):
                return block
        return None

    def view(self, span: Span) -> NDArray[np.uint8]:
        """The bytes themselves.

        Raises:
            LookupError: they were freed, or are not all of one allocation.
        """
        block = self.find(span)
        if block is None:
            raise LookupError(f"{span.size} bytes at {span.pointer:#x} are not allocated")
        start = span.pointer - block.pointer
        return block.data[start : start + span.size]

    def array(self, span: Span, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """The same as an array that shares them."""
        array: NDArray[Any] = self.view(span).view(dtype).reshape(shape)
        return array
