"""Damage to bytes as networks, disks and attackers do it."""

import struct

from hypothesis import strategies as st

# Lengths and sizes at which arithmetic goes wrong.
NUMBERS = (0, 1, 2, 7, 255, 256, 32767, 32768, 60_000, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_HEADER = 160


@st.composite
def damaged(draw, seeds: list[bytes]) -> bytes:
    """One of the seeds with up to four wounds, or two seeds spliced; headers get the most."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        if not data:
            break
        end = draw(st.sampled_from([min(_HEADER, len(data)), len(data)])) - 1
        where = draw(st.integers(0, end))
        match draw(st.sampled_from(["flip", "number", "bytes", "cut", "drop", "insert", "splice"])):
            case "flip":
                data[where] ^= 1 << draw(st.integers(0, 7))
            case "number":
                form = draw(st.sampled_from([">I", "<I", ">H", "<H", "B"]))
                value = draw(st.sampled_from(NUMBERS)) % 256 ** struct.calcsize(form)
                data[where : where + struct.calcsize(form)] = struct.pack(form, value)
            case "bytes":
                new = draw(st.binary(min_size=1, max_size=8))
                data[where : where + len(new)] = new
            case "cut":
                del data[where:]
            case "drop":
                del data[where : where + draw(st.integers(1, 64))]
            case "insert":
                data[where:where] = draw(st.binary(min_size=1, max_size=64))
            case "splice":
                other = draw(st.sampled_from(seeds))
                data[where:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)
