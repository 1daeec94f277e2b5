import pytest

from hfdn_deploy.engines import FLAVOURS, why_unavailable


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Return the folder of an engine cache for this test only."""
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture(scope="session")
def trt():
    """Return the real TensorRT-RTX module, which builds without a GPU."""
    if reason := why_unavailable("rtx"):
        pytest.skip(reason)
    return FLAVOURS["rtx"].trt
