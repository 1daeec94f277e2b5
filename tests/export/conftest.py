import pytest

from tests.helpers.small_grid import make_small


@pytest.fixture
def small_grid(monkeypatch):
    """A quarter of the pixels to judge graphs on, where their quality plays no part."""
    make_small(monkeypatch)
