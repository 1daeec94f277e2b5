"""Upscaling of one image file, and comparison of the results with other programs."""

import logging
import os
import re
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from hfdn_deploy import Upscaler
from hfdn_deploy.errors import HFDNError
from hfdn_deploy.files import Done, Job, run_jobs
from hfdn_deploy.images import FORMATS, Header, open_image, read_header, read_image
from tests.suites import decoders, metadata
from tests.suites.backend import Repeat
from tests.suites.pixels import canonical, compare, turned
from tests.suites.results import Result
from tests.suites.sources import is_damaged, reference

LOSSY_LEVELS = 3.0
"""Largest difference between decoders of a lossy file, in levels of 255."""
CONVERTED_LEVELS = 6.0
"""Largest difference between conversions of CMYK to sRGB, in levels."""
ENCODED_RMS = {".jpg": 12.0, ".avif": 12.0, ".heic": 12.0, ".jxl": 12.0, ".gif": 32.0}
"""Largest RMS difference between a lossy copy and its source pixels, in levels."""

_DAMAGED = re.compile(r"damaged|truncated|(copy|save) it again|lacks some")
# Formats whose decoders apply the orientation; then formats, and TIFF compressions and photometric
# interpretations, that are lossy or converted from other colours.
_TURNED_BY_DECODERS = frozenset(("AVIF", "HEIF", "JXL"))
_LOSSY = frozenset(("JPEG", "WebP")) | _TURNED_BY_DECODERS
_LOSSY_COMPRESSIONS = {6, 7, 33003, 33005, 34712, 34887, 34892, 50001, 50002}
_PALETTE, _CMYK, _YCBCR, _LAB = 3, 5, 6, {8, 9}
_MAGICK = {"HEIF": "heic"}


@dataclass(frozen=True)
class _Made:
    """The results of this project for a file."""

    header: Header
    image: Any
    """The image as it was read."""
    expected: Any
    """The upscaled image."""
    copies: list[tuple[Path, list[str]]]
    """The written files, each with its warnings."""


def check_file(path: Path, largest: float, model: int | None) -> Result:
    """Check one file.

    Args:
        path: image file.
        largest: largest number of pixels that is upscaled.
        model: scale of a network of the package; None for repeated pixels.
    """
    result = Result(str(path))
    made = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            with captured_stderr() as written:
                made = _upscale(path, Path(folder), result, largest, model)
        except HFDNError as error:
            result.outcome, result.said = "refused", str(error)
            _check_refusal(path, result)
        except Exception:
            result.findings.append(("foreign exceptions", traceback.format_exc(limit=-3)))
        if written:
            result.findings.append(("stderr", " / ".join(written)[:500]))
        if made:
            _compare(path, made, result)
    return result


def _upscale(
    path: Path, scratch: Path, result: Result, largest: float, model: int | None
) -> _Made | None:
    """Upscale to PNG and, if it can be written, to the same format; None if there are no copies."""
    header = read_header(path)
    if header.width * header.height > largest:
        result.outcome = "larger"
        return None
    image = read_image(path)
    if not np.array_equal(open_image(path)[:, :], image, equal_nan=image.dtype.kind == "f"):
        result.findings.append(("wrong pixels", "reading by rows and reading whole differ"))
    suffixes = [kind.suffixes[0] for kind in FORMATS.values() if kind.name == header.format]
    copies: list[tuple[Path, list[str]]] = []
    with Upscaler.load(model) if model else Upscaler(Repeat(), "repeats pixels") as up:
        for suffix in dict.fromkeys([*suffixes, ".png"]):
            target = scratch / f"copy{suffix}"
            with logged() as warnings:
                (done,) = run_jobs(up, [Job(path, target)])
            if isinstance(done, Done):
                copies.append((target, warnings))
            elif _DAMAGED.search(str(done.error)):
                raise done.error
            else:
                result.said = str(done.error)
        shown = _first_frame(path) if header.format == "PNG" and header.animated else image
        expected = up(shown)
    left = {path.name for path in scratch.iterdir()} - {target.name for target, _ in copies}
    if left:
        result.findings.append(("left behind", ", ".join(sorted(left))))
    if not copies:
        result.outcome = "refused"
        return None
    return _Made(header, image, expected, copies)


def _first_frame(path: Path) -> NDArray[np.uint8]:
    """Return the first frame of an animated PNG, which may differ from its default image."""
    with PIL.Image.open(path) as image:
        image.seek(1 if image.info.get("default_image") else 0)
        return np.asarray(image.convert("RGBA"))


def _compare(path: Path, made: _Made, result: Result) -> None:
    kind, targets = made.header.format, [target for target, _ in made.copies]
    before, *after = metadata.read_tags([path, *targets])
    said = _check_read(path, made, before, result)
    wrong = metadata.complaint(before)
    bare = kind == "HEIF" and not decoders.primary_has_profile(path)
    for (target, warnings), tags in zip(made.copies, after, strict=True):
        if result.outcome == "upscaled":
            _check_copy(target, made.expected, said, result)
        if not wrong:
            own = target.suffix in FORMATS and FORMATS[target.suffix].name == kind
            turns = made.header.orientation != 1 or kind in _TURNED_BY_DECODERS
            known = {"turned": turns, "converted": not own, "bare": bare}
            facts = [fact for fact, holds in known.items() if holds]
            for text in metadata.differences(before, tags, facts, warnings):
                result.findings.append(("metadata", f"{target.suffix}: {text}"))
    result.tags = 0 if wrong else len(before)


def _check_read(path: Path, made: _Made, tags: metadata.Tags, result: Result) -> str:
    """Compare the read image with other decoders until one agrees; return their complaints."""
    header, kind = made.header, made.header.format
    own, tolerance, said = canonical(made.image), _tolerance(kind, tags), ""
    found: list[str] = []
    magick = _MAGICK.get(kind, kind.lower())
    try:
        if is_damaged(path):
            raise decoders.Complaint("damaged on purpose")
        if reason := _incomparable(header, tags):
            raise decoders.Unsupported(reason)
        for other in reference(path) or decoders.readings(path.read_bytes(), magick):
            if kind == "BMP" and (own[..., 3] == decoders.FULL).all():
                other.pixels[..., 3] = decoders.FULL  # the fourth byte is reserved
            turns = [turned(other.pixels, value) for value in _orientations(kind, tags)]
            texts = [compare(own, pixels, tolerance) for pixels in turns]
            said = said or other.said
            if not all(texts):
                found = []
                break
            found.append(str(texts[0]))
    except decoders.Complaint as complaint:
        if not found:
            unknown = isinstance(complaint, decoders.Unsupported)
            result.outcome, result.said = "unknown" if unknown else "corrupt", str(complaint)
            return result.said
    result.compared = True
    if found:
        result.findings.append(("wrong pixels", f"read: {', '.join(found)}"))
    return said


def _incomparable(header: Header, tags: metadata.Tags) -> str | None:
    """Return why the decoders cannot judge a file; None if they can."""
    if header.format == "AVIF" and header.frames > 1:
        return "programs disagree on which image of a sequence is the first"
    if _LAB & {*tags.get("IFD0:PhotometricInterpretation", [])}:
        return "ImageMagick interprets L*a*b* values as RGB"
    return None


def _tolerance(kind: str, tags: metadata.Tags) -> float:
    """Return the levels by which two decoders of a file may differ."""
    compression, photometric = (
        set(tags.get(f"IFD0:{name}", [])) for name in ("Compression", "PhotometricInterpretation")
    )
    if _CMYK in photometric or 4 in tags.get("File:ColorComponents", []):
        return CONVERTED_LEVELS
    if kind in _LOSSY or compression & _LOSSY_COMPRESSIONS or _YCBCR in photometric:
        return LOSSY_LEVELS
    # Decoders reduce 16-bit palettes, and colours of 5 or 10 bits, by truncation or by rounding.
    fields = kind == "BMP" and {16, 32} & {*tags.get("File:BitDepth", [])}
    premultiplied = 1 in tags.get("IFD0:ExtraSamples", [])
    palette = kind == "TIFF" and _PALETTE in photometric
    return 1.0 if fields or premultiplied or palette else 0.0


def _orientations(kind: str, tags: metadata.Tags) -> list[int]:
    """Return the orientations that may be applied; an orientation only in XMP is optional."""
    if kind in _TURNED_BY_DECODERS:
        return [1]
    in_exif, in_xmp = (
        [value for value in tags.get(f"{group}:Orientation", []) if value in range(1, 9)]
        for group in ("IFD0", "XMP-tiff")
    )
    return in_exif[:1] or [1, *in_xmp]


def _check_copy(target: Path, expected: Any, said: str, result: Result) -> None:
    """Compare the copy's pixels, by another decoder, with its source pixels.

    The decoder's complaints about metadata are findings unless it also complained (`said`) about
    the original.
    """
    lossy = ENCODED_RMS.get(target.suffix)
    kind = next(kind.name for kind in FORMATS.values() if target.suffix in kind.suffixes)
    try:
        other = decoders.decode(target.read_bytes(), _MAGICK.get(kind, kind.lower()))
    except decoders.Complaint as complaint:
        result.findings.append(("wrong pixels", f"copy {target.suffix}: {complaint}"))
        return
    text = compare(canonical(expected), other.pixels, lossy or 0.0, mean=bool(lossy))
    if text:
        result.findings.append(("wrong pixels", f"copy {target.suffix}: {text}"))
    if other.said and not said:
        result.findings.append(("metadata", f"copy {target.suffix}: {other.said}"))


def _check_refusal(path: Path, result: Result) -> None:
    """Add a finding if other programs read a file called damaged without complaint."""
    data = path.read_bytes()
    called_damaged = bool(_DAMAGED.search(result.said))
    try:
        if is_damaged(path):
            raise decoders.Complaint("damaged on purpose")
        decoders.decode(data, magick_kind(data))
        if called_damaged and (said := metadata.complaint(*metadata.read_tags([path]))):
            raise decoders.Complaint(said)
    except decoders.Complaint as complaint:
        unknown = isinstance(complaint, decoders.Unsupported)
        result.outcome = "refused" if not called_damaged else "unknown" if unknown else "corrupt"
        result.said += f" | {complaint}"
    else:
        if called_damaged:
            result.findings.append(("called damaged", result.said))


def magick_kind(data: bytes) -> str:
    """Return ImageMagick's name for the format of a file."""
    for start, kind in (
        (b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"II", "tiff"), (b"MM", "tiff"),
        (b"RIFF....WEBP", "webp"), (b"BM", "bmp"), (b"GIF8", "gif"), (b"....ftypavi", "avif"),
        (b"....ftyp", "heic"), (b"\xff\x0a", "jxl"), (b"\0\0\0\x0cJXL", "jxl"),
    ):  # fmt: skip
        if re.match(start, data, re.DOTALL):
            return kind
    return "unknown"


@contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Catch what libraries write to stderr; yields a list to which the lines are added."""
    written: list[str] = []
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield written
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            written.extend(file.read().decode(errors="replace").splitlines())


@contextmanager
def logged() -> Iterator[list[str]]:
    """Catch this project's warnings; yields a list to which they are added."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("hfdn_deploy")
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
