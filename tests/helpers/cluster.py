"""The model that tests run on a cluster, and a reader for its outputs."""

from pathlib import Path

from hfdn_deploy.options import ModelOptions

OPTIONS = ModelOptions(model=2, precision="int8")
MODEL = ("--scale", "2", "--precision", "int8")
"""`OPTIONS` as command line arguments."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of the files in a folder by name, hidden files included."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
