"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
"""Of the checkout."""
SHARED = ROOT.parent / "shared" / "data"
"""Image sets that are not in the checkout, and may be missing."""
