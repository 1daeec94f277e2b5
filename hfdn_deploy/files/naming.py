"""The names of outputs in a folder."""

import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import SIGNATURE_BYTES, check_format, format_of
from hfdn_deploy.video import check_video_format, is_video

logger = logging.getLogger(__name__)

# Used where neither a file's suffix nor its format can be written.
_IMAGE, _VIDEO = ".png", ".mp4"


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Which files of folders are inputs, and the names of their outputs."""

    recursive: bool = False
    """Include the folders below a folder, and keep the tree below the output."""
    format: str | None = None
    """Suffix of output images, such as ".webp"; None for that of each input."""
    suffix: str = ""
    """Text between the name and the suffix of the format."""


DEFAULTS = Naming()


def first_bytes(path: Path) -> bytes:
    """Return the bytes that identify an image's format; empty if the file cannot be read."""
    with suppress(OSError):
        if path.is_file():  # a pipe would never end
            with path.open("rb") as file:
                return file.read(SIGNATURE_BYTES)
    return b""


def is_suffix(text: str) -> bool:
    """Return whether a suffix names a format, unlike ".5" in "results_v1.5"."""
    return re.match(r"\.[^\W\d]", text) is not None


def output_name(source: Path, naming: Naming) -> str:
    """Return the name of an output in a folder, in a format that can be written."""
    stem = source.stem if is_suffix(source.suffix) else source.name
    return stem + naming.suffix + output_suffix(source, naming)


def output_suffix(source: Path, naming: Naming, start: bytes | None = None) -> str:
    """Return the suffix of an output, for a format that can be written.

    Args:
        source: the input.
        naming: how outputs are named.
        start: the first bytes of the input; by default they are read when needed.
    """
    own = source.suffix
    if is_video(source):
        return own if _is_written(own) else _VIDEO
    if naming.format or _is_written(own):
        return naming.format or own
    kind = format_of(first_bytes(source) if start is None else start)
    return kind.suffixes[0] if kind and _is_written(kind.suffixes[0]) else _IMAGE


def _is_written(suffix: str) -> bool:
    path = Path(f"x{suffix}")
    try:
        (check_video_format if is_video(path) else check_format)(path)
    except InputError:
        return False
    return True


def mention_renamed(pairs: Sequence[tuple[Path, Path]]) -> None:
    """Log the outputs that cannot keep the suffixes of their inputs, a line for each suffix."""
    renamed: dict[str, list[tuple[Path, Path]]] = {}
    for source, target in pairs:
        if target.suffix.lower() != source.suffix.lower():
            renamed.setdefault(source.suffix.lower(), []).append((source, target))
    for suffix, ones in renamed.items():
        source, target = ones[0]
        others = f", and so do {len(ones) - 1} more" if len(ones) > 1 else ""
        why = f"{suffix} cannot be written" if suffix else "it has no suffix"
        logger.warning("%s becomes %s because %s%s", source, target.name, why, others)
