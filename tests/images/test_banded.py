from itertools import pairwise

import numpy as np
import pytest

from hfdn_deploy.errors import BackendError, InputError
from hfdn_deploy.images import Banded, read_image, write_image

pytestmark = pytest.mark.usefixtures("small_bands")


def banded(image, *stops):
    edges = [0, *stops, len(image)]
    bands = (image[a:b] for a, b in pairwise(edges))
    return Banded(image.shape, image.dtype, bands)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_bands_make_the_same_file(tmp_path, photo, suffix, dtype):
    # Large enough for several strips of a TIFF.
    image = np.tile(photo, (9, 9, 1)).astype(dtype) * (257 if dtype == "uint16" else 1)
    if dtype == "uint16" and suffix in (".webp", ".jpg"):
        pytest.skip("8 bits only")
    write_image(tmp_path / f"whole{suffix}", image)
    write_image(tmp_path / f"bands{suffix}", banded(image, 1, 2, 300, 400))
    whole, bands = (read_image(tmp_path / f"{name}{suffix}") for name in ("whole", "bands"))
    np.testing.assert_array_equal(bands, whole)
    if suffix == ".png":
        np.testing.assert_array_equal(whole, image)
        return
    assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"bands{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("error", [BackendError("the engine failed"), KeyboardInterrupt()])
def test_what_ends_the_bands_comes_through_and_leaves_nothing(tmp_path, photo, suffix, error):
    def bands():
        yield photo[:10]
        raise error

    with pytest.raises(type(error)):
        write_image(tmp_path / f"a{suffix}", Banded(photo.shape, photo.dtype, bands()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_bands_can_be_taken_once(tmp_path, photo, suffix):
    image = banded(photo, 5)
    write_image(tmp_path / f"a{suffix}", image)
    for rest in (image, banded(photo[:-1], 5)):
        rest = Banded(photo.shape, photo.dtype, rest.bands)
        with pytest.raises(InputError, match="rows of the image were already taken"):
            write_image(tmp_path / f"b{suffix}", rest)
    with pytest.raises(InputError, match=f"{len(photo)} rows of the image were already taken"):
        image.whole()
    assert not (tmp_path / f"b{suffix}").exists()
