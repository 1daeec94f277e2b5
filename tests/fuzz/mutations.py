"""Hostile variants of good bytes and of good JSON documents."""

import json

from hypothesis import strategies as st

# Values that a reader of numbers, texts and lists may not be ready for.
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
def damaged(draw, data: bytes) -> bytes:
    """Bytes truncated, with bits flipped, with parts cut out, doubled or made noise."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        if not result:
            break
        start = draw(st.integers(0, len(result) - 1))
        length = draw(st.integers(1, 64))
        kind = draw(st.sampled_from(["truncate", "flip", "cut", "double", "noise"]))
        if kind == "truncate":
            del result[start:]
        elif kind == "flip":
            result[start] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del result[start : start + length]
        elif kind == "double":
            result[start:start] = result[start : start + length]
        else:
            result[start : start + length] = draw(st.binary(min_size=1, max_size=length))
    return bytes(result)


@st.composite
def rewritten(draw, document: object) -> object:
    """A JSON document with one value anywhere in it replaced, removed or added."""
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
