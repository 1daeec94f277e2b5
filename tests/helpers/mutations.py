"""Hypothesis strategies that damage bytes and JSON documents, by accident or on purpose."""

import json
import struct

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

# Lengths and sizes at which arithmetic often fails.
NUMBERS = (0, 1, 2, 7, 255, 256, 32767, 32768, 60_000, 65535, 2**31 - 1, 2**31, 2**32 - 1)
_HEADER = 160

# Values that a reader of numbers, strings and lists may not expect.
_HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["../x", "/etc/passwd", "..\\x", "a/b", "", "\0", "x" * 5000, "🜁"]),
    st.lists(st.none(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)


@st.composite
def damaged(draw: DrawFn, seeds: list[bytes]) -> bytes:
    """Draw one of the seeds with up to four changes, most of them in the header."""
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


@st.composite
def rewritten(draw: DrawFn, document: object) -> object:
    """Draw a JSON document with one value anywhere in it replaced, removed or added."""
    changed = json.loads(json.dumps(document))
    place = changed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and draw(st.integers(0, 3)):
            place = place[key]
            continue
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if action == "remove":
            del place[key]
        elif action == "add" and isinstance(place, dict):
            place[draw(st.text(max_size=5))] = draw(_HOSTILE)
        else:
            place[key] = draw(_HOSTILE)
        break
    return changed
