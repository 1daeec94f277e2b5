import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Rows, open_image, read_image, write_image
from tests.helpers.images import chunk, deep

pytestmark = pytest.mark.usefixtures("small_bands")


def in_parts(image: Rows) -> np.ndarray:
    """Read the whole image as tiling does: from top to bottom, with halos, and by columns."""
    height, width = image.shape[:2]
    parts = []
    for top in range(0, height, 7):
        around = image[slice(max(0, top - 5), min(top + 12, height)), slice(None)]
        left = image[slice(top, min(top + 7, height)), slice(0, width // 2)]
        part = around[top - max(0, top - 5) :][:7]
        np.testing.assert_array_equal(left, part[:, : width // 2])
        parts.append(part)
    return np.concatenate(parts)


def tiff(path, image, **options):
    tifffile.imwrite(path, image, **options)


KINDS = {
    "rgb.png": lambda path, photo: cv2.imwrite(path, photo),
    "grey.png": lambda path, photo: cv2.imwrite(path, photo[..., 0]),
    "deep.png": lambda path, photo: cv2.imwrite(path, deep(photo, "uint16")),
    "deep_grey.png": lambda path, photo: cv2.imwrite(path, deep(photo, "uint16")[..., 0]),
    "pillow.png": lambda path, photo: Image.fromarray(photo).save(path, optimize=True),
    "pillow.tif": lambda path, photo: Image.fromarray(photo).save(path),
    "ours.tif": lambda path, photo: write_image(Path(path), deep(photo, "uint16")),
    "strips.tif": lambda path, photo: tiff(path, photo, rowsperstrip=4),
    "lzw.tif": lambda path, photo: Image.fromarray(photo).save(
        path, compression="tiff_lzw", tiffinfo={317: 2, 278: 8}
    ),
    "jpeg.tif": lambda path, photo: Image.fromarray(photo).save(
        path, compression="jpeg", tiffinfo={278: 8}
    ),
    "packbits.tif": lambda path, photo: Image.fromarray(photo[..., 0]).save(
        path, compression="packbits", tiffinfo={278: 8}
    ),
    "fax.tif": lambda path, photo: Image.fromarray(photo[..., 0] > 99).save(
        path, compression="group4", tiffinfo={278: 8}
    ),
    "fax_in_two_dimensions.tif": lambda path, photo: Image.fromarray(photo[..., 0] > 99).save(
        path, compression="group3", tiffinfo={278: 8, 292: 1}
    ),
    "palette.tif": lambda path, photo: Image.fromarray(photo).quantize(100).save(path),
    "big_endian.tif": lambda path, photo: tiff(
        path, deep(photo, "uint16"), byteorder=">", rowsperstrip=3
    ),
    "bigtiff.tif": lambda path, photo: tiff(path, photo, bigtiff=True, rowsperstrip=3),
    "tiles.tif": lambda path, photo: tiff(path, photo, tile=(16, 32)),
    "column_of_tiles.tif": lambda path, photo: tiff(path, photo, tile=(16, 256)),
    "deep_tiles.tif": lambda path, photo: tiff(path, deep(photo, "uint16"), tile=(16, 32)),
    "float.tif": lambda path, photo: tiff(
        path, deep(photo, "float32"), photometric="rgb", rowsperstrip=3
    ),
}


@pytest.mark.parametrize("name", KINDS)
def test_rows_are_those_of_the_whole(tmp_path, photo, name):
    path = tmp_path / name
    KINDS[name](str(path), photo)
    whole, image = read_image(path), open_image(path)
    assert isinstance(image, Rows)
    assert (image.shape, image.dtype) == (whole.shape, whole.dtype)
    for _ in range(2):  # the second pass starts again at the top
        np.testing.assert_array_equal(in_parts(image), whole)
    np.testing.assert_array_equal(image[:, :], whole)


def adam7(path, photo):
    """Write an interlaced PNG (PNG specification, 8.2) without filters."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    passes.append((1, 0, 2, 1))
    data = b"".join(
        b"\0" + row.tobytes()
        for top, left, down, across in passes
        for row in photo[top::down, left::across]
    )
    header = struct.pack(">IIBBBBB", photo.shape[1], photo.shape[0], 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)
    Path(path).write_bytes(content)


WHOLE = {
    "a.jpg": lambda path, photo: cv2.imwrite(path, photo),
    "alpha.png": lambda path, photo: cv2.imwrite(path, np.dstack([photo, photo[..., 0]])),
    "palette.png": lambda path, photo: Image.fromarray(photo).quantize(100).save(path),
    "interlaced.png": adam7,
    "turned.tif": lambda path, photo: Image.fromarray(photo).save(path, tiffinfo={274: 6}),
    "ycbcr.tif": lambda path, photo: (
        Image.fromarray(photo)
        .convert("YCbCr")
        .save(path, compression="tiff_lzw", tiffinfo={278: 8, 529: (0.2126, 0.7152, 0.0722)})
    ),
    "planes.tif": lambda path, photo: tiff(
        path, photo.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_no_rows_is_read_whole(tmp_path, photo, name):
    path = tmp_path / name
    WHOLE[name](str(path), photo)
    image = open_image(path)
    assert isinstance(image, np.ndarray)
    np.testing.assert_array_equal(image, read_image(path))


@pytest.mark.parametrize("name", ["rgb.png", "strips.tif", "tiles.tif", "float.tif"])
@pytest.mark.parametrize("harm", ["cut", "flip"])
def test_damage_is_found_where_it_is(tmp_path, photo, name, harm):
    path = tmp_path / name
    KINDS[name](str(path), photo)
    data = bytearray(path.read_bytes())
    if harm == "cut":
        del data[len(data) // 2 :]
    elif name != "rgb.png":
        pytest.skip("a TIFF has no check sums")
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name}.*(damaged|truncated)"):
        open_image(path)[:, :]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_that_there_are_more_pictures_is_said(tmp_path, caplog, photo, suffix):
    path = tmp_path / f"a{suffix}"
    first = Image.fromarray(photo)
    first.save(path, save_all=True, append_images=[Image.fromarray(255 - photo)])
    image = open_image(path)
    assert caplog.messages == [f"{path}: only the first of its images is read"]
    np.testing.assert_array_equal(image[:, :], photo)
    assert isinstance(image, Rows) and len(caplog.messages) == 1


def test_rows_behind_an_error_are_not_skipped(photo):
    def bands():
        yield photo[:10]
        raise InputError("torn")

    image = Rows(photo.shape, photo.dtype, bands)
    np.testing.assert_array_equal(image[5:10, :], photo[5:10])
    with pytest.raises(InputError, match="torn"):
        image[8:20, :]
    with pytest.raises(InputError, match="too early"):
        image[20:, :]


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, photo):
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), photo)
    image = open_image(path)
    cv2.imwrite(str(path), photo[:-1])
    with pytest.raises(InputError, match=r"a\.png was changed while it was being read"):
        image[:5, :]


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(tmp_path, photo):
    path = tmp_path / "a.png"
    write_image(path, photo)
    image = open_image(path)
    write_image(path, 255 - photo)
    for _ in range(2):
        np.testing.assert_array_equal(in_parts(image), photo)


# In a process of its own: the memory of a fork grows as pages of its parent are touched.
READING = """
import resource, sys
from pathlib import Path
from hfdn_deploy.images import open_image

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

image = open_image(Path(sys.argv[1]))
image[slice(0, 100), slice(None)]  # imports what reading needs
before = peak()
for top in range(100, 5900, 100):
    image[slice(top, top + 100), slice(None)]
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_only_the_rows_asked_for_are_in_memory(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_image(path, np.zeros((6000, 8000, 3), np.uint8))
    run = subprocess.run(
        [sys.executable, "-c", READING, path], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 20  # MiB; the whole is 137
