"""Upscale images with one foreign package, in the package's own environment.

`python run.py PACKAGE GRAPH IN.npy OUT.npy [IN.npy OUT.npy ...]`. Each module of `packages` has a
function `load(path)` that returns a function from an image to the upscaled one, both uint8
(1, H, W, 3). An exception becomes one line.
"""

import sys
from importlib import import_module

import numpy as np


def main() -> None:
    """Upscale; prints "loaded" before the first image."""
    package, graph, *files = sys.argv[1:]
    upscale = import_module(f"packages.{package}").load(graph)
    print("loaded", flush=True)
    for source, target in zip(files[::2], files[1::2], strict=True):
        np.save(target, upscale(np.load(source)))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(" ".join(f"{type(error).__name__}: {error}".split()))
