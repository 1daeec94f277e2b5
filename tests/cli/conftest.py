import pytest

from hfdn_deploy.images import write_image


@pytest.fixture
def picture(tmp_path, photo):
    write_image(tmp_path / "photo.png", photo)
    return tmp_path / "photo.png"
