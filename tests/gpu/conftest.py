import pytest

from hfdn_deploy.cuda import Device
from hfdn_deploy.errors import BackendError


@pytest.fixture(scope="session", autouse=True)
def gpu():
    """The device; without one, nothing in this folder is run."""
    try:
        return Device.current()
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))
