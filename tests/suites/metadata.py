"""Tags of an image and of its upscaled copy by exiftool, and the differences that are expected."""

import json
import re
import shutil
import struct
import subprocess
import tempfile
import tomllib
from base64 import b64decode
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import Any

Tags = dict[str, list[Any]]
"""Values by group and name, such as "IFD0:Make"; a tag may occur more than once."""

_DENSITIES = (
    ("JFIF:ResolutionUnit", "JFIF:XResolution", "JFIF:YResolution"),
    ("PNG-pHYs:PixelUnits", "PNG-pHYs:PixelsPerUnitX", "PNG-pHYs:PixelsPerUnitY"),
)
"""Names of the tags for the unit (0 for none) and the two values of a density."""
_CENTIMETRES = 2
"""Unit of a JFIF header that a PNG does not have."""
_JXL = b"\0\0\0\x0cJXL "
_COMPLAINT = re.compile(r"ExifTool:(Warning|Error)")


def missing() -> str | None:
    """Return why no metadata can be read here; None if it can be read."""
    found = shutil.which("exiftool")
    return None if found else "exiftool is missing: apt-get install libimage-exiftool-perl"


def read_tags(paths: Sequence[Path]) -> list[Tags]:
    """Return the tags of files, with numeric values and with unknown and repeated tags."""
    command = ["exiftool", "-j", "-a", "-G1:4", "-n", "-u", "-b", "-charset", "filename=utf8"]
    with tempfile.TemporaryDirectory() as folder:
        names = [str(_legible(path, Path(folder) / f"{i}.jxl")) for i, path in enumerate(paths)]
        done = subprocess.run([*command, *names], capture_output=True, timeout=300)
    found = {one["SourceFile"]: one for one in json.loads(done.stdout.decode(errors="replace"))}
    return [_grouped(found[name]) for name in names]


def _legible(path: Path, copy: Path) -> Path:
    """Return the path, or of a JXL with Brotli, which exiftool 12 cannot read, a copy without."""
    data = path.read_bytes()
    if not data.startswith(_JXL) or b"brob" not in data:
        return path
    from imagecodecs import brotli_decode

    place, boxes = 0, []
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        box = data[
            place : place + size if size > 1 else None
        ]  # 0 and 1 mark long boxes, which come last
        place += len(box)
        if kind == b"brob":
            inside = brotli_decode(box[12:])
            box = struct.pack(">I", 8 + len(inside)) + box[8:12] + inside
        boxes.append(box)
    copy.write_bytes(b"".join(boxes))
    return copy


def _grouped(values: dict[str, Any]) -> Tags:
    tags: Tags = {}
    for name, value in values.items():
        if name != "SourceFile":
            name = re.sub(r":Copy[0-9]+:", ":", name)
            # From the second file on, the name includes the language.
            name = re.sub(r"^(PNG:.*)-[a-z]{2}$", r"\1", name)
            tags.setdefault(name, []).append(value)
    return _plain(tags)


def _plain(tags: Tags) -> Tags:
    """Normalise tags, so that equal meanings have equal values."""
    comments = tags.get("File:Comment", [])
    tags["File:Comment"] = [
        b64decode(str(text)[7:]).decode("latin1") if str(text).startswith("base64:") else text
        for text in comments
    ]
    dropped: list[str] = []
    for names in _DENSITIES:
        unit, x, y = (tags.get(name, [None])[0] for name in names)
        if (unit == 0 and x == y) or x == 0:  # carries no information
            dropped += names
        elif unit == _CENTIMETRES:
            tags |= {names[0]: [1], names[1]: [round(x * 2.54)], names[2]: [round(y * 2.54)]}
    if set(tags.get("PNG:AnimationFrames", [])) == {1}:  # a still image
        dropped += ["PNG:AnimationFrames", "PNG:AnimationPlays"]
    return {name: values for name, values in tags.items() if values and name not in dropped}


def complaint(tags: Tags) -> str | None:
    """Return exiftool's complaint about a file, unless it is minor."""
    for name, values in tags.items():
        for value in values:
            if _COMPLAINT.fullmatch(name) and not str(value).startswith("[minor]"):
                return f"exiftool: {value}"
    return None


@cache
def rules() -> list[dict[str, str]]:
    """Return the rules in expected.toml."""
    path = Path(__file__).with_name("expected.toml")
    return list(tomllib.loads(path.read_text())["rule"])


def differences(
    before: Tags, after: Tags, facts: Collection[str] = (), warnings: Sequence[str] = ()
) -> list[str]:
    """Return the differences that no rule expects, each as "lost TAG: ..." or similar.

    Args:
        before, after: tags of the image and of its copy.
        facts: properties of the copy: "turned", "converted", "bare".
        warnings: lines of the log about the copy.
    """
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = (Counter(map(_text, tags.get(name, []))) for tags in (before, after))
        lost, gained = list((old - new).elements()), list((new - old).elements())
        if not lost and not gained:
            continue
        change = "changed" if lost and gained else "lost" if lost else "new"
        values = " -> ".join(", ".join(each) for each in (lost, gained) if each)
        text = f"{change} {name}: {values}"
        expecting = (rule for rule in rules() if _expects(rule, text, before, facts, warnings))
        if not any(_becomes(rule, old, after) for rule in expecting):
            found.append(text)
    return found


def _expects(
    rule: dict[str, str],
    text: str,
    before: Tags,
    facts: Collection[str],
    warnings: Sequence[str],
) -> bool:
    """Return whether a rule expects this difference."""
    change, name = text.split(": ")[0].split(" ", 1)
    return (
        bool(re.fullmatch(rule["tags"], name))
        and not re.fullmatch(rule.get("except", "$^"), name)
        and change in rule.get("change", change)
        and bool(re.search(rule.get("value", ""), text))
        and rule.get("when", "always") in ("always", *facts)
        and ("beside" not in rule or any(re.fullmatch(rule["beside"], tag) for tag in before))
        and ("warning" not in rule or any(re.search(rule["warning"], line) for line in warnings))
    )


def _becomes(rule: dict[str, str], values: Collection[str], after: Tags) -> bool:
    """Return whether the tag that the rule names, if any, has all values."""
    return "becomes" not in rule or {*values} <= {*map(_text, after.get(rule["becomes"], []))}


def _text(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:90]}... {hash(text) % 10**6}"
