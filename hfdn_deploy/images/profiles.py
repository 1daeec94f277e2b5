"""ICC profiles equal to the colour that a file describes by code points or chunks."""

import struct

from hfdn_deploy.images.icc import SRGB, Primaries, profile_of_cicp, profile_of_gamma
from hfdn_deploy.images.metadata import Metadata

# ITU-T H.273, tables 2 and 3: unknown, BT.709's primaries, and sRGB's transfer.
_UNKNOWN = (0, 2, 3)
_BT709, _SRGB_TRANSFER = 1, 13
# The gamma of sRGB in a PNG (PNG specification, 11.3.2.5), and a tolerance for rounded values.
_SRGB_GAMMA = 0.45455
_NEAR = 0.002


def known_cicp(primaries: int, transfer: int) -> tuple[int, int] | None:
    """Return these code points; None if they are invalid, unspecified or sRGB, the default."""
    if primaries in (*_UNKNOWN, _BT709) and transfer in (*_UNKNOWN, _SRGB_TRANSFER):
        return None
    return (primaries, transfer) if max(primaries, transfer) < 256 else None


def equal_profile(metadata: Metadata, grey: bool) -> bytes | None:
    """Return the profile that equals `cicp`, else `gamma` (PNG specification, 4.3).

    Returns:
        Empty if the colours are those of an image without a profile; None if no profile can
        describe them.
    """
    if metadata.cicp:
        primaries, transfer = metadata.cicp
        if not known_cicp(primaries, transfer):
            return b""
        primaries = _BT709 if primaries in _UNKNOWN else primaries
        transfer = _SRGB_TRANSFER if transfer in _UNKNOWN else transfer
        return profile_of_cicp(primaries, transfer, grey)
    chunks = dict(metadata.gamma)
    if not chunks or b"sRGB" in chunks:
        return b""
    gamma, chromaticities = _gamma(chunks.get(b"gAMA", b"")), _primaries(chunks.get(b"cHRM", b""))
    if abs(gamma - _SRGB_GAMMA) < _NEAR and (grey or _near(chromaticities)):
        return b""
    return profile_of_gamma(1 / gamma, chromaticities, grey)


def _gamma(data: bytes) -> float:
    value = struct.unpack(">I", data)[0] / 100_000 if len(data) == 4 else 0
    return value or _SRGB_GAMMA


def _primaries(data: bytes) -> Primaries:
    """Return the primaries of a cHRM chunk, or those of sRGB."""
    if len(data) != 32:
        return SRGB
    white, red, green, blue = ((x / 1e5, y / 1e5) for x, y in struct.iter_unpack(">II", data))
    return Primaries(red, green, blue, white)


def _near(primaries: Primaries) -> bool:
    pairs = zip(vars(primaries).values(), vars(SRGB).values(), strict=True)
    return all(abs(a - b) < _NEAR for one, other in pairs for a, b in zip(one, other, strict=True))
