import pytest

from hfdn_deploy.images import rows


@pytest.fixture
def small_bands(monkeypatch):
    """So that small pictures take several."""
    monkeypatch.setattr(rows, "BAND_BYTES", 3000)
