"""Paths of the checkout and of data beside it."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
"""The top of the checkout."""
SHARED = ROOT.parent / "shared" / "data"
"""Image sets that are not part of the checkout and may be missing."""
