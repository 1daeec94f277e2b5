"""Fetch the packages in packages.txt and unpack their image files.

    python -m tests.suites.fetch build/suites

Debian's sources are fetched by apt-get with its own lists in that folder, so that the system is not
changed and root is not needed; Python's are fetched by unearth, which builds nothing.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.suites.sources import is_image, is_reference

PACKAGES = Path(__file__).with_name("packages.txt")
_APT = Path("/etc/apt")


def packages(kind: str) -> list[str]:
    """Return the names of the packages from "debian" or "pypi"."""
    lines = (line.split() for line in PACKAGES.read_text().splitlines() if line[:1] not in "#")
    return [name for place, name in lines if place == kind]


def apt_options(folder: Path) -> list[str]:
    """Return options that give apt-get the source packages of the system's repositories."""
    sources = folder / "sources"
    for made in (sources, folder / "lists" / "partial", folder / "cache" / "archives" / "partial"):
        made.mkdir(parents=True, exist_ok=True)
    (sources / "main.list").write_text("")
    for path in (_APT / "sources.list", *_APT.glob("sources.list.d/*.sources")):
        if path.exists():
            text = re.sub(r"(?m)^Types:.*", "Types: deb-src", path.read_text())
            name = "main.list" if path.suffix == ".list" else path.name
            (sources / name).write_text(re.sub(r"(?m)^deb\b", "deb-src", text))
    settings = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": sources,
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    return [f"-o{key}={value}" for key, value in settings.items()]


def fetch(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield the packages and their archives, which stay in the folder for the next run."""
    apt = ["apt-get", "-qq", *apt_options(folder / "apt")]
    subprocess.run([*apt, "update"], check=True)
    for name in packages("debian"):
        place = folder / "archives" / f"debian-{name}"
        if not place.exists():
            place.mkdir(parents=True)
            call = [*apt, "source", "--download-only", name]
            subprocess.run(call, cwd=place, stdout=subprocess.DEVNULL)
        yield f"debian-{name}", sorted(place.glob("*.orig*.tar.*z*"))
    for name in packages("pypi"):
        place = folder / "archives" / f"pypi-{name}"
        if not place.exists():
            call = [sys.executable, "-m", "unearth", "--no-binary", name, "--download", str(place)]
            subprocess.run(call, stdout=subprocess.DEVNULL)
        yield f"pypi-{name}", sorted(place.glob("*"))


def unpack(archive: Path, folder: Path) -> int:
    """Unpack the image files and references of an archive, and return the number of images."""
    count = 0
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        shutil.unpack_archive(archive, scratch, filter=None if archive.suffix == ".zip" else "data")
        for path in sorted(Path(scratch).rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            image = is_image(path)
            if image or is_reference(path):
                target = folder / path.relative_to(scratch)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
                count += image
    return count


def main(folder: Path) -> None:
    """Fetch all packages; a package that cannot be fetched is reported and left out."""
    folder = folder.resolve()
    for name, archives in fetch(folder):
        target = folder / "packages" / name
        if not target.exists():
            target.mkdir(parents=True)
            count = sum(unpack(path, target) for path in archives if path.suffix != ".asc")
            print(f"{name}: {count} image files" if archives else f"{name}: cannot be fetched")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
