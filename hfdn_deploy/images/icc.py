"""Construction of ICC profiles from other descriptions of colour (ICC.1:2010, version 4.3)."""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Chromaticity = tuple[float, float]

# The white point of profiles, and Bradford's cone responses (ICC.1:2010, 6.3.4.3 and annex E).
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
_HEADER_BYTES = 128


@dataclass(frozen=True)
class Primaries:
    """Chromaticities x and y of red, green, blue and white."""

    red: Chromaticity
    green: Chromaticity
    blue: Chromaticity
    white: Chromaticity


SRGB = Primaries((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65)
# By number in ITU-T H.273, table 2.
_PRIMARIES = {
    1: SRGB,
    4: Primaries((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), _C),
    5: Primaries((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: Primaries((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    8: Primaries((0.681, 0.319), (0.243, 0.692), (0.145, 0.049), _C),
    9: Primaries((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: Primaries((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: Primaries((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}


def _parametric(gamma: float, a: float, b: float, c: float, d: float) -> bytes:
    """Return the curve (aX + b)^gamma for X >= d, else cX (ICC.1:2010, 10.16, function 3)."""
    return b"para" + struct.pack(">IHH", 0, 3, 0) + _fixed(gamma, a, b, c, d)


def _power(gamma: float) -> bytes:
    return b"para" + struct.pack(">IHH", 0, 0, 0) + _fixed(gamma)


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


_BT709 = _parametric(1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
# By number in ITU-T H.273, table 3, without those of high dynamic range.
_CURVES = {
    1: _BT709, 6: _BT709, 14: _BT709, 15: _BT709, 4: _power(2.2), 5: _power(2.8), 8: _power(1),
    13: _parametric(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045),
}  # fmt: skip


def profile_of_cicp(primaries: int, transfer: int, grey: bool) -> bytes | None:
    """Return a profile for code points of ITU-T H.273; None if they have none, such as HDR."""
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        return None
    name = f"H.273 primaries {primaries}, transfer {transfer}"
    return _profile(name, _PRIMARIES[primaries], _CURVES[transfer], grey)


def profile_of_gamma(gamma: float, primaries: Primaries, grey: bool) -> bytes | None:
    """Return a profile for the chunks gAMA and cHRM of a PNG; None if their values are invalid."""
    try:
        return _profile(f"gamma {gamma:.4g}", primaries, _power(gamma), grey)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, struct.error):
        return None


def profile_for_channels(icc: bytes, grey: bool) -> bytes | None:
    """Return a grey profile as a colour profile, or the reverse, with the same curve.

    Returns:
        None if the profile has no single curve.
    """
    curves = {_tag(icc, name) for name in ((b"rTRC", b"gTRC", b"bTRC") if grey else (b"kTRC",))}
    if len(curves) != 1 or not (curve := curves.pop()):
        return None
    return _profile("the curve of the original", SRGB, curve, grey)


def _tag(icc: bytes, name: bytes) -> bytes:
    """Return the data of a tag; empty if it is missing or damaged."""
    if len(icc) < _HEADER_BYTES + 4:
        return b""
    (count,) = struct.unpack_from(">I", icc, _HEADER_BYTES)
    table = icc[_HEADER_BYTES + 4 :][: 12 * count]
    for i in range(0, len(table) - 11, 12):
        key, place, size = struct.unpack_from(">4sII", table, i)
        if key == name and place + size <= len(icc):
            return icc[place : place + size]
    return b""


def _profile(name: str, primaries: Primaries, curve: bytes, grey: bool) -> bytes:
    white = _xyz(primaries.white)
    cones = _BRADFORD @ _D50 / (_BRADFORD @ white)
    adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    tags = {
        b"desc": _text(name),
        b"cprt": _text("CC0"),
        b"wtpt": _xyz_tag(_D50),
        b"chad": b"sf32" + bytes(4) + _fixed(*adapted.ravel()),
    }
    if grey:
        tags[b"kTRC"] = curve
    else:
        columns = np.column_stack(
            [_xyz(c) for c in (primaries.red, primaries.green, primaries.blue)]
        )
        colorants = adapted @ (columns * np.linalg.solve(columns, white))
        tags |= {b"%cXYZ" % c: _xyz_tag(colorants[:, i]) for i, c in enumerate(b"rgb")}
        tags |= {b"%cTRC" % c: curve for c in b"rgb"}
    head = struct.pack(
        ">8xI4s4s4s12s4s28x12s48x",
        0x04300000, b"mntr", b"GRAY" if grey else b"RGB ", b"XYZ ",
        struct.pack(">6H", 2020, 1, 1, 0, 0, 0), b"acsp", _fixed(*_D50),
    )  # fmt: skip
    place = len(head) + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    places: dict[bytes, int] = {}
    for key, value in tags.items():
        if value not in places:
            places[value] = place + len(data)
            data += value + bytes(-len(value) % 4)
        table += struct.pack(">4sII", key, places[value], len(value))
    whole = head + table + data
    return struct.pack(">I", len(whole)) + whole[4:]


def _xyz(chromaticity: Chromaticity) -> NDArray[np.float64]:
    x, y = chromaticity
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz_tag(xyz: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*xyz)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">4xII4sII", 1, 12, b"enUS", len(encoded), 28) + encoded
