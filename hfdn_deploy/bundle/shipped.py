"""The pretrained bundles in the package, and bundles by name."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from hfdn_deploy.bundle.bundle import Bundle
from hfdn_deploy.bundle.manifest import MANIFEST, is_scale
from hfdn_deploy.errors import BundleError

_FOLDER = Path(str(files("hfdn_deploy.bundle") / "pretrained"))


def pretrained_scales() -> Sequence[int]:
    """Return the scales of the pretrained bundles in the package."""
    return sorted(int(path.parent.name[1:]) for path in _FOLDER.glob(f"x[0-9]/{MANIFEST}"))


def pretrained(scale: int, allow_ungated: bool = False) -> Bundle:
    """Open the pretrained bundle for `scale`.

    Raises:
        BundleError: the package has no bundle for this scale.
    """
    if scale not in pretrained_scales():
        known = ", ".join(map(str, pretrained_scales()))
        raise BundleError(f"no pretrained bundle for scale {scale}; there is one for {known}.")
    return Bundle(_FOLDER / f"x{scale}", allow_ungated)


def named_bundle(name: str, allow_ungated: bool = False) -> Bundle:
    """Open a bundle by its path, or a pretrained bundle by a name such as "x4".

    Raises:
        BundleError: the bundle does not exist or is damaged.
    """
    path = Path(name)
    if is_scale(name) and (int(name[1:]) in pretrained_scales() or not path.exists()):
        return pretrained(int(name[1:]), allow_ungated)
    return Bundle(path, allow_ungated)


def name_of(bundle: Bundle) -> str:
    """Return the name by which `named_bundle` finds this bundle on this machine."""
    path = bundle.path.resolve()
    return path.name if path.parent == _FOLDER.resolve() else str(path)
