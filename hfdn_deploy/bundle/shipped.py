"""The bundles that come with the package, and bundles by name."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from hfdn_deploy.bundle.bundle import Bundle
from hfdn_deploy.bundle.manifest import MANIFEST, is_scale
from hfdn_deploy.errors import BundleError

_FOLDER = Path(str(files("hfdn_deploy.bundle") / "pretrained"))


def pretrained_scales() -> Sequence[int]:
    """Return the scales whose bundles come with the package."""
    return sorted(int(path.parent.name[1:]) for path in _FOLDER.glob(f"x[0-9]/{MANIFEST}"))


def pretrained(scale: int, allow_ungated: bool = False) -> Bundle:
    """Open the bundle for `scale` that comes with the package.

    Raises:
        BundleError: there is none for this scale.
    """
    if scale not in pretrained_scales():
        known = ", ".join(map(str, pretrained_scales()))
        raise BundleError(f"no pretrained bundle for scale {scale}; there is one for {known}.")
    return Bundle(_FOLDER / f"x{scale}", allow_ungated)


def named_bundle(name: str, allow_ungated: bool = False) -> Bundle:
    """Open a bundle by its path, or "x4" for the one of that scale that comes with the package.

    Raises:
        BundleError: it is not there or damaged.
    """
    path = Path(name)
    if is_scale(name) and (int(name[1:]) in pretrained_scales() or not path.exists()):
        return pretrained(int(name[1:]), allow_ungated)
    return Bundle(path, allow_ungated)


def name_of(bundle: Bundle) -> str:
    """Return the name that `named_bundle` finds this bundle by, on this machine."""
    path = bundle.path.resolve()
    return path.name if path.parent == _FOLDER.resolve() else str(path)
