"""Upscale images with one other package, in that package's own environment.

`python run.py PACKAGE GRAPH IN.npy OUT.npy [IN.npy OUT.npy ...]`. Each module in `packages` has a
function `load(path)`, which returns a function from an image to the upscaled image, both uint8
(1, H, W, 3). An exception is reported in one line.
"""

import sys
from importlib import import_module

import numpy as np


def main() -> None:
    """Upscale the images; print "loaded" before the first one."""
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
