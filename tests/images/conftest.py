import pytest

from hfdn_deploy.images import rows


@pytest.fixture
def small_bands(monkeypatch):
    """Make bands so small that small images take several."""
    monkeypatch.setattr(rows, "BAND_BYTES", 3000)
