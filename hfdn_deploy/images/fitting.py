"""Metadata converted for another format; fields it cannot hold are left out with a warning."""

import logging
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hfdn_deploy.images.format import Format
from hfdn_deploy.images.icc import profile_for_channels
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.photoshop import joined_iptc, split_iptc
from hfdn_deploy.images.png_chunks import comment_of, comment_text
from hfdn_deploy.images.profiles import equal_profile
from hfdn_deploy.images.rows import Banded, size_of
from hfdn_deploy.images.xmp import joined_xmp, split_xmp

logger = logging.getLogger(__name__)


def fitting(path: Path, kind: type[Format], image: Banded, metadata: Metadata) -> Metadata:
    """Return the metadata that a file can hold, and log a warning for each loss.

    Args:
        path: the file, for the warnings.
        kind: its format.
        image: its pixels.
        metadata: of the source image.
    """
    for reason in metadata.lost:
        logger.warning("%s: %s", path, reason)
    metadata = _with_colour(path, kind, size_of(image)[2] < 3, metadata)
    metadata = _with_texts(kind, _with_xmp(kind, metadata))
    left_out = []
    for field in fields(Metadata):
        value = getattr(metadata, field.name)
        if not value or "says" not in field.metadata:
            continue
        long = isinstance(value, bytes) and len(value) > (kind.max_block or len(value))
        if field.name not in kind.holds or (long and field.name in ("exif", "xmp")):
            left_out.append(field.metadata["says"])
            nothing: Any = {field.name: field.default}
            metadata = replace(metadata, **nothing)
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        logger.warning("%s: left out because %s cannot hold it: %s", path, kind.name, names)
    return metadata


def _with_colour(path: Path, kind: type[Format], grey: bool, metadata: Metadata) -> Metadata:
    """Convert the colour fields to these channels, and to a profile if the format needs one."""
    if metadata.icc and metadata.icc[16:20] != (b"GRAY" if grey else b"RGB "):
        icc = profile_for_channels(metadata.icc, grey)
        if icc is None:
            logger.warning("%s: the colour profile is for other channels and is left out", path)
        metadata = replace(metadata, icc=icc)
    says = [name for name in ("cicp", "gamma") if getattr(metadata, name)]
    if kind.holds.issuperset(says):
        return metadata
    if metadata.icc is None:
        icc = equal_profile(metadata, grey)
        if icc is None:
            logger.warning("%s: no profile describes the colours of the source", path)
        metadata = replace(metadata, icc=icc or None)
    return replace(metadata, cicp=None, gamma=())


def _with_xmp(kind: type[Format], metadata: Metadata) -> Metadata:
    """Join or split XMP into the one packet or two that the format holds."""
    xmp, extended = metadata.xmp, metadata.extended_xmp
    if xmp and extended and "extended_xmp" not in kind.holds:
        joined = joined_xmp(xmp, extended)
        return replace(metadata, xmp=joined or xmp, extended_xmp=None if joined else extended)
    if xmp and not extended and "extended_xmp" in kind.holds and len(xmp) > (kind.max_block or 0):
        xmp, extended = split_xmp(xmp)
    return replace(metadata, xmp=xmp, extended_xmp=extended)


def _with_texts(kind: type[Format], metadata: Metadata) -> Metadata:
    """Move IPTC and comments to the fields that the format holds."""
    if "iptc" in kind.holds and metadata.photoshop and not metadata.iptc:
        iptc, photoshop = split_iptc(metadata.photoshop)
        metadata = replace(metadata, iptc=iptc or None, photoshop=photoshop or None)
    elif "photoshop" in kind.holds and metadata.iptc and "iptc" not in kind.holds:
        photoshop = joined_iptc(metadata.photoshop or b"", metadata.iptc)
        metadata = replace(metadata, photoshop=photoshop, iptc=None)
    if "texts" in kind.holds and "comments" not in kind.holds:
        texts = metadata.texts + tuple(map(comment_text, metadata.comments))
        return replace(metadata, texts=texts, comments=())
    if "comments" in kind.holds and "texts" not in kind.holds:
        comments = {chunk: comment_of(chunk) for chunk in metadata.texts}
        texts = tuple(chunk for chunk, comment in comments.items() if comment is None)
        found = tuple(comment for comment in comments.values() if comment is not None)
        return replace(metadata, texts=texts, comments=metadata.comments + found)
    return metadata
