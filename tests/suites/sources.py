"""Recognition of image files, independent of this project, and reference pixels for some."""

import re
from configparser import ConfigParser
from pathlib import Path

import numpy as np

from tests.suites.decoders import Decoded, rgba

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".tif", ".tiff", ".btf", ".webp",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".bmp", ".dib", ".gif", ".jxl",
)  # fmt: skip
RAW = (
    ".3fr", ".arw", ".cr2", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".orf",
    ".pef", ".rw2", ".srw",
)  # fmt: skip
"""Raw files of cameras, which look like TIFF but are not read, or only as a small preview."""
SIGNATURES = re.compile(
    rb"\x89PNG|\xff\xd8\xff|II[*+]\0|MM\0[*+]|RIFF....WEBP|GIF8|BM....\0\0\0\0|"
    rb"\xff\x0a|\0\0\0\x0cJXL |....ftyp(avi[fs]|hei[cfsx]|mif1|msf1)",
    re.DOTALL,
)


def is_image(path: Path) -> bool:
    """Return whether the file is of a kind that is read, by its name or its content."""
    if path.suffix.lower() in SUFFIXES + RAW:
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return bool(SIGNATURES.match(file.read(32)))


DAMAGED = (
    "*/bmp/b/*",  # bmpsuite: "bad"
    # Animations that Pillow's tests expect to be refused; their default image is intact.
    *(f"*/apng/{name}.png" for name in ("chunk_no_fdat", "chunk_repeat_fctl", "sequence_*")),
    "*/apng/syntax_num_frames_high.png",
)
"""Files that are damaged on purpose, although other programs read them without complaint."""


def is_damaged(path: Path) -> bool:
    """Return whether the file is known to be damaged on purpose."""
    return any(path.match(pattern) for pattern in DAMAGED)


def find_images(folder: Path) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted."""
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and is_image(path)]


def is_reference(path: Path) -> bool:
    """Return whether the file holds reference pixels for an image of gif-test-suite."""
    return path.match("gif-test-suite/*.conf") or path.match("gif-test-suite/*.rgba")


FRAMES_OF_THEIR_OWN = ("images-overlap.gif", "dispose-restore-previous.gif")
"""Images of gif-test-suite whose frames cover one another without a delay: the suite shows only the
last frame, as GIF89a says; browsers and decoders show each."""


def reference(path: Path) -> list[Decoded]:
    """Return the reference of the first frame of an image of gif-test-suite; empty for others.

    The suite takes precedence over decoders, which disagree on pixels that no frame covers and on
    frames that make up one image.
    """
    config = ConfigParser()
    if not path.match("gif-test-suite/*.gif") or not config.read(path.with_suffix(".conf")):
        return []
    whole = config["config"]
    first, *_ = whole["frames"].split(",")
    if not first or path.name in FRAMES_OF_THEIR_OWN:
        return []
    pixels = np.fromfile(path.with_name(config[first]["pixels"]), np.uint8)
    return [Decoded(rgba(pixels.reshape(int(whole["height"]), int(whole["width"]), 4), 255))]
