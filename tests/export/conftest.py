import pytest

from tests.helpers.small_grid import make_small


@pytest.fixture
def small_grid(monkeypatch):
    """Judge graphs on a quarter of the pixels, where their quality does not matter."""
    make_small(monkeypatch)
