import pytest

from hfdn_deploy.bench import luma8, photographs


@pytest.fixture(scope="module")
def images():
    """Return the luma of scikit-image's photographs, (H, W) uint8."""
    return [luma8(photograph) for photograph in photographs().values()]
