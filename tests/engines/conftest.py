import pytest

from hfdn_deploy.engines import FLAVOURS, why_unavailable


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of engines of the test's own."""
    monkeypatch.setenv("HFDN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture(scope="session")
def trt():
    """The real module of TensorRT-RTX, which builds without a GPU."""
    if reason := why_unavailable("rtx"):
        pytest.skip(reason)
    return FLAVOURS["rtx"].trt
