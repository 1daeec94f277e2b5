"""Paths of the checkout and of data beside it."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
"""The top of the checkout."""
SHARED = ROOT.parent / "shared" / "data"
"""Image sets outside the checkout, which may be missing."""
