"""Decoders that share no code with this project's: ImageMagick, tifffile, imagecodecs.

ImageMagick decodes all formats with the usual library of each, through its own code. Files that it
does not support are decoded by imagecodecs, or by tifffile if they are TIFFs.
"""

import io
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageCms

FULL = 65535
"""The largest value of a decoded pixel."""

_PATIENCE = 300
"""Time limit of a program in seconds, generous for a busy machine."""

# ImageMagick's warnings about metadata, which say nothing about the pixels.
_OF_METADATA = re.compile(
    "Unknown field|iCCP|bKGD|gAMA|cHRM|sRGB|keyword|"
    "(tEXt|zTXt|iTXt|pHYs|tIME|hIST|sPLT|eXIf|sBIT|oFFs|sCAL|pCAL): |"
    "TIFFReadCustomDirectory|custom directory|TIFF directory|tags are not sorted|tag ignored|"
    "RichTIFFIPTC|Incompatible type for|profile.c|xml-tree.c|property.c"
)
_UNSUPPORTED = re.compile(
    "not supported|unsupported|no decode delegate|not configured|NoDecodeDelegate|Sorry|"
    "not implemented",
    re.IGNORECASE,
)

for name in ("tifffile", "imagecodecs"):
    logging.getLogger(name).setLevel(logging.CRITICAL)

Pixels = NDArray[Any]


class Complaint(Exception):  # noqa: N818 (a message of another program)
    """A decoder does not read the file, or reads it with a warning."""


class Unsupported(Complaint):
    """A decoder does not know this kind of file."""


@dataclass(frozen=True)
class Decoded:
    """The first image of a file."""

    pixels: Pixels
    """(H, W, 4), RGBA with straight alpha, float64 from 0 to `FULL`, as stored, without the
    orientation applied. Floats of a TIFF are multiplied by `FULL`."""
    said: str = ""
    """The decoder's complaints about the file's metadata."""


def readings(data: bytes, kind: str) -> Iterator[Decoded]:
    """Decode a file with each decoder that supports its kind, one after the other.

    Args:
        data: content of the file.
        kind: ImageMagick's name of the format, in lower case.

    Raises:
        Complaint: the file is damaged.
        Unsupported: no decoder supports this kind.
    """
    decoders = [_magick, *([_OTHERS[kind]] if kind in _OTHERS else [])]
    # The others decode AVIF and HEIC better, keep floats exact and expand short colours to 8 bits.
    if kind in ("avif", "heic") or _is_float_tiff(data, kind) or _is_bmp_of_16_bits(data, kind):
        decoders.reverse()
    refusals = []
    for decode in decoders:
        try:
            yield decode(data, kind)
        except Unsupported as unsupported:
            refusals.append(unsupported)
    if len(refusals) == len(decoders):
        raise refusals[0]


def decode(data: bytes, kind: str) -> Decoded:
    """Decode a file with the first decoder of `readings`; raises the same errors."""
    return next(readings(data, kind))


def missing() -> str | None:
    """Return why nothing can be decoded here; None if decoding is possible."""
    # GraphicsMagick may install a program of the same name.
    if shutil.which("convert"):
        done = subprocess.run(["convert", "-version"], capture_output=True, timeout=_PATIENCE)
        if done.returncode == 0 and b"ImageMagick" in done.stdout:
            return None
    return "ImageMagick is missing: apt-get install imagemagick"


def _magick(data: bytes, kind: str) -> Decoded:
    # Keep a PNG's values, although ImageMagick takes a gamma of 1 for another colour space.
    options = ["-set", "colorspace", "sRGB"] if kind == "png" else []
    options = ["-colorspace", "sRGB"] if kind == "heic" else options  # HEIC is decoded as YCbCr
    # A GIF frame goes on a transparent canvas, as in browsers, not on the background colour.
    options = ["-alpha", "set", "-background", "none", "-flatten"] if kind == "gif" else options
    decoded, colour = _convert(data, kind, options)
    if colour == "CMYK":  # to sRGB by its profile, or without one by the formula
        with tempfile.NamedTemporaryFile(suffix=".icc") as srgb:
            srgb.write(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
            srgb.flush()
            intent = ["-intent", "Relative", "-black-point-compensation", "-profile", srgb.name]
            decoded, colour = _convert(data, kind, intent)
    if colour == "CMYK":
        decoded, _ = _convert(data, kind, ["-colorspace", "sRGB"])
    return decoded


def _convert(data: bytes, kind: str, options: list[str]) -> tuple[Decoded, str]:
    """Decode with ImageMagick; return the result and the image's colour type."""
    limits = ["-limit", "memory", "2GiB", "-limit", "map", "2GiB"]
    command = ["convert", *limits, f"{kind}:-[0]", *options, "+repage", "-depth", "16", "pam:-"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=_PATIENCE)
    lines = done.stderr.decode(errors="replace").splitlines()
    of_pixels = [line for line in lines if not _OF_METADATA.search(line)]
    if of_pixels or not done.stdout:
        text = " | ".join(of_pixels or lines)
        # The only message for an image that is larger than ImageMagick's policy allows.
        refused = "no images defined" in of_pixels[0] if of_pixels else False
        raise (Unsupported if refused or _UNSUPPORTED.search(text) else Complaint)(text)
    pixels, colour = _pam(done.stdout)
    return Decoded(pixels, " | ".join(lines)), colour


def _pam(data: bytes) -> tuple[Pixels, str]:
    """Decode a PAM (netpbm.sourceforge.net/doc/pam.html); the pixels of CMYK are meaningless."""
    head, _, values = data.partition(b"ENDHDR\n")
    facts = dict(line.split(b" ", 1) for line in head.splitlines() if b" " in line)
    width, height, depth = (int(facts[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH"))
    pixels = np.frombuffer(values, ">u2")[: width * height * depth].reshape(height, width, depth)
    colour = facts[b"TUPLTYPE"].decode().removesuffix("_ALPHA")
    return rgba(pixels[..., :4], int(facts[b"MAXVAL"])), colour


def rgba(pixels: Pixels, full: float) -> Pixels:
    """Convert a grey, grey and alpha, RGB or RGBA image with maximum value `full` to RGBA."""
    values = pixels.astype(np.float64) * (FULL / full)
    values = values.reshape(*values.shape[:2], -1)
    channels = values.shape[2]
    colour = values[..., :-1] if channels in (2, 4) else values
    alpha = values[..., -1:] if channels in (2, 4) else np.full_like(values[..., :1], FULL)
    return np.concatenate([np.broadcast_to(colour, (*values.shape[:2], 3)), alpha], axis=2)


def _is_bmp_of_16_bits(data: bytes, kind: str) -> bool:
    return kind == "bmp" and data[28:30] == b"\x10\0"


def _is_float_tiff(data: bytes, kind: str) -> bool:
    import tifffile

    if kind != "tiff":
        return False
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return np.dtype(file.pages.first.dtype).kind == "f"
    except Exception:  # whatever a damaged file raises
        return False


def _tifffile(data: bytes, kind: str) -> Decoded:
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages.first
            values = page.asarray()
            if page.planarconfig == 2 and values.ndim == 3:
                values = np.moveaxis(values, 0, -1)
            known = page.photometric in (0, 1, 2) and values.dtype.kind in "uf"
            if page.extrasamples and page.extrasamples[0] == 0 and values.ndim == 3:
                values = values[..., : -len(page.extrasamples)]  # their meaning is unspecified
            if not known or values.ndim > 3 or values.shape[2:] > (4,):
                raise Unsupported(f"{page.photometric}, {values.dtype}, {values.shape}")
            full = 1.0 if values.dtype.kind == "f" else float(2**page.bitspersample - 1)
            return Decoded(rgba(full - values if page.photometric == 0 else values, full))
    except Complaint:
        raise
    except Exception as error:
        raise Unsupported(f"tifffile: {error}") from None


def _imagecodecs(data: bytes, kind: str) -> Decoded:
    try:
        import imagecodecs

        name = {"jpeg": "jpeg8", "jxl": "jpegxl"}.get(kind, kind)
        values = getattr(imagecodecs, f"{name}_decode")(data)
    except Exception as error:  # whatever a damaged file raises
        raise Unsupported(f"imagecodecs: {error}") from None
    if values.dtype.kind != "u" or values.ndim > 3:
        raise Unsupported(f"imagecodecs: {values.dtype}, {values.shape}")
    bits = 8 if values.dtype == np.uint8 else max(9, int(values.max()).bit_length())
    return Decoded(rgba(values, 2**bits - 1))


def primary_has_profile(path: Path) -> bool:
    """Return whether a HEIC's primary image has an ICC profile, by libheif's heif-info."""
    done = subprocess.run(["heif-info", path], capture_output=True, timeout=_PATIENCE)
    images = done.stdout.decode(errors="replace").split("\nimage:")
    primary = [text for text in images if "primary" in text.splitlines()[0]]
    return not primary or "color profile: no" not in primary[0]


def _heif_convert(data: bytes, kind: str) -> Decoded:
    if not shutil.which("heif-convert"):
        raise Unsupported("heif-convert is missing: apt-get install libheif-examples")
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.heic", Path(folder) / "out.png"
        source.write_bytes(data)
        subprocess.run(["heif-convert", source, target], capture_output=True, timeout=_PATIENCE)
        if not target.exists():  # or several, with no indication of the first
            raise Unsupported("heif-convert: no image, or several")
        return _magick(target.read_bytes(), "png")


_OTHERS: dict[str, Callable[[bytes, str], Decoded]] = {
    "tiff": _tifffile,
    "heic": _heif_convert,
    **dict.fromkeys(("avif", "bmp", "jpeg", "jxl", "png"), _imagecodecs),
}
