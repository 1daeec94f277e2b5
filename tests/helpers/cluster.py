"""What a cluster runs in tests, and how what it left is read."""

from pathlib import Path

from hfdn_deploy.options import ModelOptions

OPTIONS = ModelOptions(model=2, precision="int8")
MODEL = ("--scale", "2", "--precision", "int8")
"""The same on the command line."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files in a folder by name; hidden files, too."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
