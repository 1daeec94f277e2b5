import io
import struct
import warnings
import zlib
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hfdn_deploy import InputError
from hfdn_deploy.images import (
    FORMATS,
    Animation,
    Frames,
    Metadata,
    encode_image,
    open_image,
    read_header,
    read_image,
    size_of,
    write_animation,
    write_image,
)
from tests.helpers.metadata import SRGB, XMP, exif
from tests.helpers.mutations import damaged
from tests.helpers.profiles import fuzz

BIT_FIELDS = (0x3FF00000, 0x000FFC00, 0x000003FF, 0xC0000000)
TARGETS = ("a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.avif", "a.gif")


def seeds() -> list[bytes]:
    """Return an intact file of every format and kind, with all the metadata it can hold."""
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (17, 13, 4), np.uint8)
    picture = Image.fromarray(rgba)
    extra = {"exif": exif(6), "icc_profile": SRGB, "dpi": (300, 300)}
    files = []
    for mode, name, options in [
        *[(mode, "PNG", extra) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[(mode, "TIFF", extra) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")],
        *[
            ("RGB", "TIFF", {"compression": c, "tiffinfo": {278: 8}})
            for c in ("tiff_lzw", "jpeg", "packbits")
        ],
        *[(mode, "PNG", {}) for mode in ("L", "RGB")],
        *[(mode, "JPEG", {**extra, "xmp": XMP}) for mode in ("L", "RGB", "CMYK")],
        ("RGB", "JPEG", {"progressive": True}),
        *[("RGBA", "WEBP", {**extra, "xmp": XMP, "lossless": flag}) for flag in (True, False)],
        *[(mode, "BMP", {}) for mode in ("1", "L", "P", "RGB", "RGBA")],
        *[(mode, "AVIF", {**extra, "xmp": XMP}) for mode in ("L", "RGBA")],
        ("RGB", "PNG", {"save_all": True, "append_images": [picture.convert("RGB")]}),
        ("RGB", "WEBP", {"save_all": True, "append_images": [picture.convert("RGB")]}),
        *[(mode, "GIF", {}) for mode in ("L", "P", "RGBA")],
        ("RGBA", "GIF", {"save_all": True, "append_images": [picture.rotate(90)], "disposal": 2}),
        ("LAB", "TIFF", {}),
    ]:
        file = io.BytesIO()
        picture.convert(mode).save(file, name, **options)
        files.append(file.getvalue())
    for channels in (1, 3, 4):
        for suffix, deep in [(".png", np.uint16(257)), (".tif", np.uint16(257)), (".tif", 1 / 255)]:
            pixels = (rgba[..., :channels] * deep).astype("f4" if deep == 1 / 255 else "u2")
            files.append(cv2.imencode(suffix, pixels)[1].tobytes())
    for kind in ({"tile": (16, 16)}, {"bigtiff": True}, {"planarconfig": "separate"}):
        file = io.BytesIO()
        pixels = np.moveaxis(rgba[..., :3], 2, 0) if "planarconfig" in kind else rgba[..., :3]
        tifffile.imwrite(file, pixels.astype("u2"), photometric="rgb", byteorder=">", **kind)
        files.append(file.getvalue())
    for dtype, kind in (
        ("u2", {"compression": "zlib", "predictor": True}),
        ("u2", {"tile": (16, 16), "byteorder": ">"}),
        ("f4", {"rowsperstrip": 5}),
    ):
        file = io.BytesIO()
        tifffile.imwrite(file, rgba[..., :2].astype(dtype), extrasamples=["unassalpha"], **kind)
        files.append(file.getvalue())
    fields = struct.pack("<IiiHHIIiiII4I", 56, 13, -17, 1, 32, 3, 0, 0, 0, 0, 0, *BIT_FIELDS)
    start = struct.pack("<IHHI", 0, 0, 0, 14 + len(fields))
    files.append(b"BM" + start + fields + rgba.tobytes())
    return files + optional_seeds(rgba)


def optional_seeds(rgba):
    """Return files of the formats that installed optional packages read."""
    files, deep = [], rgba[..., :3].astype(np.uint16) * 16
    if find_spec("imagecodecs"):
        import imagecodecs

        files.append(imagecodecs.jpeg8_encode(deep, bitspersample=12))
        files.append(imagecodecs.avif_encode(deep // 4, bitspersample=10))
        for compression in ("webp", "jpeg2000", "lerc", "jpegxl", "zstd"):
            file = io.BytesIO()
            tifffile.imwrite(file, rgba[..., :3], photometric="rgb", compression=compression)
            files.append(file.getvalue())
    if find_spec("imagecodecs") and find_spec("pillow_jxl"):
        files += [imagecodecs.jpegxl_encode(each, usecontainer=True) for each in (rgba, deep)]
    if find_spec("pillow_heif"):
        files += [encode_image(rgba[..., :n], Path("a.heic"), Metadata(xmp=XMP)) for n in (3, 4)]
    return files


def with_right_checksums(data: bytes) -> bytes:
    """Return a PNG with corrected checksums, so that its chunks are read."""
    fixed, where = bytearray(data), 8
    while where + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, where)
        end = where + 8 + length
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[where + 4 : end]))
        where = end + 4
    return bytes(fixed)


def read_in_bands(path):
    try:
        image = open_image(path)
        half = image.shape[0] // 2
        return np.concatenate([image[:half, :], image[half:, :]])
    except InputError:
        return None


@fuzz(7000)
@given(data=damaged(seeds()), believed=st.booleans(), target=st.sampled_from(TARGETS))
def test_any_file_is_an_image_or_an_input_error(data, believed, target, folder, monkeypatch):
    # A small limit keeps cases fast; larger images must be refused by their header.
    monkeypatch.setattr("hfdn_deploy.images.reading.MAX_PIXELS", 2**20)
    monkeypatch.setattr("hfdn_deploy.images.rows.BAND_BYTES", 100)
    if believed and data.startswith(b"\x89PNG"):
        data = with_right_checksums(data)
    source = folder / "image"
    source.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = read_header(source)
        except InputError:
            with pytest.raises(InputError):
                read_image(source)
            return
        # The metadata can be written again, whatever it contains.
        write_image(folder / target, np.zeros((2, 2, 3), np.uint8), header.metadata)
        assert read_image(folder / target).shape == (2, 2, 3)
        in_bands = read_in_bands(source)
        try:
            image = read_image(source)
        except InputError:
            return
    if in_bands is not None:
        np.testing.assert_array_equal(in_bands, image)
    assert image.shape[:2] == (header.height, header.width)
    assert size_of(image)[2] == header.channels
    assert image.dtype.name == header.dtype
    assert header.dtype in ("uint8", "uint16", "float32")


def animations() -> list[bytes]:
    """Return animations of every format and kind, with transparent holes."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 8, 9, 4), np.uint8)
    images = [Image.fromarray(frame) for frame in frames]
    files = []
    for form, options in [
        *[("GIF", {"disposal": disposal}) for disposal in (0, 2, 3)],
        *[("PNG", {"disposal": disposal, "blend": 1}) for disposal in (0, 1, 2)],
        ("PNG", {"default_image": True}),
        ("WEBP", {"lossless": True, "exif": exif(6)}),
        ("AVIF", {}),
    ]:
        file = io.BytesIO()
        images[0].save(file, form, save_all=True, append_images=images[1:], duration=50, **options)
        files.append(file.getvalue())
    return files


@fuzz(2000)
@given(data=damaged(animations()), suffix=st.sampled_from((".gif", ".png", ".webp")))
def test_any_animation_is_shown_alike_or_an_input_error(data, suffix, folder, monkeypatch):
    monkeypatch.setattr("hfdn_deploy.images.reading.MAX_PIXELS", 2**20)
    source, target = folder / "animation", folder / f"b{suffix}"
    source.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = Animation(source)
        except InputError:
            return
        with opened as animation:
            frames = animation.frames()
            if max(frames.shape) > FORMATS[suffix].max_side:
                return
            shape, number = frames.shape, len(frames.milliseconds)
            taken = list(frames.pixels)
            assert [pixels.shape for pixels in taken] == [shape] * number
            write_animation(target, Frames(shape, frames.milliseconds, frames.plays, iter(taken)))
    if number > 1:
        assert read_image(target).shape[:2] == shape[:2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")
