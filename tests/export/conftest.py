import pytest

from export import image, parity


@pytest.fixture
def small_grid(monkeypatch):
    """A quarter of the pixels to judge graphs on, where their quality plays no part."""
    for module, name in ((parity, "SIZE"), (image, "_CROP")):
        monkeypatch.setattr(module, name, (24, 32))
