import pytest

from tests.helpers.service import encoded, running


@pytest.fixture(scope="module")
def served():
    with running(upload_seconds=0.5) as server:
        yield server


@pytest.fixture
def png(photo):
    return encoded(photo[:16, :24], ".png")
