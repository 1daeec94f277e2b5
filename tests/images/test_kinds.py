"""Kinds of images that not every decoder supports: read exactly, or refused by name."""

import io
import struct

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import codecs, decode_header, decode_image, open_image, read_image

# Grey with one more sample of 8 bits is read as that, or as premultiplied alpha, since then.
PILLOW_13 = int(PIL.__version__.partition(".")[0]) >= 13
RAMP = np.arange(24 * 32, dtype=np.uint32).reshape(24, 32)


def values(bits, channels, seed=0):
    return np.random.default_rng(seed).integers(0, 2**bits, (7, 9, channels), np.uint32)


def bit_fields(numbers, counts, order, size=124, compression=3, upwards=True):
    """Return a BMP with pixels of 16 or 32 bits.

    Args:
        numbers: (H, W, C).
        counts: bits of each channel.
        order: channels from the lowest bits up.
        size: of the header.
        compression: 3, or 6 for a mask of alpha.
        upwards: whether the bottom row is stored first.
    """
    height, width, _ = numbers.shape
    masks, low = [0, 0, 0, 0], 0
    pixels = np.zeros((height, width), np.uint32)
    for channel in order:
        masks[channel] = (2 ** counts[channel] - 1) << low
        pixels |= numbers[..., channel] << low
        low += counts[channel]
    bits = 16 if low <= 16 else 32
    row = -(-width * bits // 32) * 4
    rows = np.zeros((height, row), np.uint8)
    rows[:, : width * bits // 8] = pixels.astype(f"<u{bits // 8}").view(np.uint8)
    rows = rows[:: -1 if upwards else 1]
    tall = height if upwards else -height
    header = struct.pack(
        "<IiiHHIIiiII", size, width, tall, 1, bits, compression, 0, 2835, 2835, 0, 0
    )
    header = (header + struct.pack("<4I", *masks)).ljust(max(size, 56), b"\0")
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + rows.size, 0, 0, start) + header + rows.tobytes()


@pytest.mark.parametrize(
    ("counts", "order", "options"),
    [
        ((5, 6, 5), (2, 1, 0), {"size": 40}),
        ((5, 5, 5, 1), (2, 1, 0, 3), {}),
        ((4, 4, 4, 4), (3, 2, 1, 0), {}),
        ((2, 3, 1), (0, 1, 2), {"upwards": False}),
        ((8, 8, 8, 8), (0, 1, 2, 3), {"size": 56}),
        ((8, 8, 8, 8), (0, 1, 2, 3), {"size": 40, "compression": 6}),
        ((10, 10, 10, 2), (2, 1, 0, 3), {"size": 108}),
        ((11, 11, 10), (0, 2, 1), {"size": 40}),
    ],
    ids=str,
)
def test_bit_fields_of_a_bmp(counts, order, options):
    numbers = np.dstack([values(bits, 1, bits) for bits in counts])
    image = decode_image(bit_fields(numbers, counts, order, **options), "a.bmp")
    top = 255 if max(counts) <= 8 else 65535
    assert image.dtype == (np.uint8 if top == 255 else np.uint16)
    exact = numbers * (top / (2.0 ** np.array(counts) - 1))
    np.testing.assert_array_equal(image, exact.round())
    header = decode_header(bit_fields(numbers, counts, order, **options), "a.bmp")
    assert header.metadata.dpi == pytest.approx((72, 72), abs=0.1)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_avif_of_more_than_8_bits(bits, channels):
    imagecodecs = pytest.importorskip("imagecodecs")
    numbers = values(bits, channels).astype(np.uint16).squeeze()
    data = imagecodecs.avif_encode(numbers, bitspersample=bits, level=100)
    image = decode_image(data, "a.avif")
    np.testing.assert_array_equal(image, np.round(numbers * (65535 / (2**bits - 1))))
    assert decode_header(data, "a.avif").dtype == "uint16"


def jpeg(bits, channels=3, **options):
    imagecodecs = pytest.importorskip("imagecodecs")
    numbers = values(bits, channels).astype(np.uint16 if bits > 8 else np.uint8)
    data = imagecodecs.jpeg8_encode(numbers.squeeze(), bitspersample=bits, lossless=True, **options)
    return numbers.squeeze(), data


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_of_any_depth(bits, channels):
    numbers, data = jpeg(bits, channels)
    image = decode_image(data, "a.jpg")
    top = 255 if bits == 8 else 65535
    np.testing.assert_array_equal(image, np.round(numbers * (top / (2**bits - 1))))
    with pytest.raises(InputError, match="truncated or damaged"):
        decode_image(data[: len(data) * 3 // 4], "a.jpg")


def test_a_12_bit_jpeg_as_cameras_make_it():
    imagecodecs = pytest.importorskip("imagecodecs")
    smooth = np.dstack([RAMP * 4, 4000 - RAMP * 4, RAMP * 2]).astype(np.uint16)
    data = imagecodecs.jpeg8_encode(smooth, bitspersample=12, level=100, subsampling="444")
    image = decode_image(data, "a.jpg")
    assert image.dtype == np.uint16
    assert np.abs(image - smooth * (65535 / 4095)).max() < 4 * 65535 / 4095


@pytest.mark.parametrize("kind", [5, 6, 7, 11, 13, 14, 15])
def test_a_jpeg_that_nothing_reads_is_named(kind):
    file = io.BytesIO()
    Image.new("RGB", (9, 7)).save(file, "JPEG")
    data = file.getvalue().replace(b"\xff\xc0", bytes([0xFF, 0xC0 + kind]))
    name = "lossless arithmetic" if kind == 11 else "hierarchical"
    message = rf"^a\.jpg is a {name} JPEG, which is unsupported; convert"
    with pytest.raises(InputError, match=message):
        decode_image(data, "a.jpg")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("compression", ["webp", "jpeg2000", "lerc", "jpegxl", "zstd", "lzma"])
def test_a_tiff_in_a_rare_compression(compression, dtype):
    pytest.importorskip("imagecodecs")
    if (compression == "webp" and dtype != "uint8") or (
        compression == "jpeg2000" and dtype[0] == "f"
    ):
        pytest.skip("there is no such file")
    exact = {"webp": {"lossless": True}, "jpegxl": {"lossless": True}, "jpeg2000": {"level": 0}}
    for channels in (1, 3, 4):
        numbers = values(8 if dtype == "uint8" else 15, channels).astype(dtype)
        if compression == "webp" and channels == 1:
            continue
        file = io.BytesIO()
        tifffile.imwrite(
            file, numbers.squeeze(), photometric="rgb" if channels > 1 else "minisblack",
            compression=compression, compressionargs=exact.get(compression), rowsperstrip=7,
            **({"extrasamples": ["unassalpha"]} if channels == 4 else {}),
        )  # fmt: skip
        np.testing.assert_array_equal(decode_image(file.getvalue(), "a.tif"), numbers.squeeze())


@pytest.fixture
def no_codecs(monkeypatch):
    monkeypatch.setattr(codecs, "find_spec", lambda _: None)


def tiff_in(compression):
    """Return a TIFF that claims this compression."""
    file = io.BytesIO()
    tifffile.imwrite(file, values(8, 3).astype(np.uint8), photometric="rgb")
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+b") as tiff:
        tiff.pages[0].tags["Compression"].overwrite(compression)
    return file.getvalue()


@pytest.mark.parametrize(
    ("number", "name"),
    [(50001, "WebP"), (34712, "JPEG 2000"), (34887, "LERC"), (50002, "JPEG XL"), (34661, "JBIG")],
)
def test_what_a_missing_package_reads_is_said(number, name, no_codecs):
    message = rf"^a\.tif is an 8-bit TIFF in compression {number} \({name}\), which needs .*; "
    message += r"pip install 'hfdn-deploy\[codecs\]', or convert"
    with pytest.raises(InputError, match=message):
        decode_image(tiff_in(number), "a.tif")


def test_a_12_bit_jpeg_names_the_missing_package(no_codecs):
    message = r"^a\.jpg is a 12-bit JPEG, which needs .*; pip install 'hfdn-deploy\[codecs\]', or"
    with pytest.raises(InputError, match=message):
        decode_image(jpeg(12)[1], "a.jpg")


@pytest.mark.parametrize("number", [12345, 34661])
def test_a_compression_that_nothing_reads_is_named(number):
    pytest.importorskip("imagecodecs")
    message = rf"compression {number}.*, which is unsupported; save it"
    with pytest.raises(InputError, match=message):
        decode_image(tiff_in(number), "a.tif")


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("options", [{}, {"tile": True}], ids=str)
def test_grey_and_alpha_of_few_bits(tmp_path, bits, options):
    numbers = np.random.default_rng(bits).integers(0, 2**bits, (16, 32, 2), np.uint8)
    packed = np.zeros((16, 64 * bits // 8), np.uint8)
    for place in range(8 // bits):  # the left pixel is in the highest bits
        packed = packed << bits | numbers.reshape(16, -1)[:, place :: 8 // bits]
    tifffile.imwrite(tmp_path / "a.tif", packed, photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        tags = file.pages[0].tags
        tags["ImageWidth"].overwrite(32)
        tags["SamplesPerPixel"].overwrite(2)
        tags["BitsPerSample"].overwrite((bits, bits))
        tags["Software"].overwrite("")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    where = data.index(struct.pack("<HH", 305, 2))  # turn the text tag into ExtraSamples
    data[where : where + 12] = struct.pack("<HHII", 338, 3, 1, 2)
    image = decode_image(bytes(data), "a.tif")
    np.testing.assert_array_equal(image, numbers * (255 // (2**bits - 1)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 2}, {"compression": "zlib"}], ids=str)
def test_an_unspecified_sample_is_left_out_and_told(tmp_path, caplog, dtype, channels, options):
    path = tmp_path / "a.tif"
    numbers = values(8, channels).astype(dtype)
    photometric = "rgb" if channels == 4 else "minisblack"
    tifffile.imwrite(
        path, numbers, photometric=photometric, extrasamples=["unspecified"], **options
    )
    for read in (read_image, open_image):
        caplog.clear()
        if (channels, dtype) == (2, "uint8") and not PILLOW_13:
            with pytest.raises(InputError, match=r"unsupported kind \(unknown pixel mode\)"):
                read(path)
            continue
        image = read(path)[:, :]
        np.testing.assert_array_equal(image, numbers[..., : channels - 1].squeeze())
        note = "samples without a stated meaning, such as masks, are left out"
        assert caplog.messages == [f"{path}: {note}"]


@pytest.mark.skipif(not PILLOW_13, reason="Pillow does not read it")
def test_alpha_that_is_multiplied_is_divided(tmp_path):
    numbers = values(8, 2).astype(np.uint8)
    numbers[..., 0] = np.minimum(numbers[..., 0], numbers[..., 1])
    tifffile.imwrite(tmp_path / "a.tif", numbers, extrasamples=["assocalpha"])
    image = read_image(tmp_path / "a.tif").astype(int)
    visible = numbers[..., 1] > 0
    grey = 255.0 * numbers[..., 0][visible] / numbers[..., 1][visible]
    assert np.abs(image[..., 0][visible] - grey).max() <= 1
    np.testing.assert_array_equal(image[..., 1], numbers[..., 1])


@pytest.mark.parametrize("case", ["pixel depth", "pixel mode"])
def test_what_a_decoder_does_not_know_is_no_damage(case):
    if case == "pixel depth":
        data = bytearray(bit_fields(values(5, 3), (5, 5, 5), (0, 1, 2)))
        data[28:34] = struct.pack("<HI", 2, 0)  # 2 bits, no compression
    else:
        file = io.BytesIO()
        tifffile.imwrite(file, values(8, 1).astype(np.uint8).squeeze(), photometric="minisblack")
        file.seek(0)
        with tifffile.TiffFile(file, mode="r+b") as tiff:
            tiff.pages[0].tags["BitsPerSample"].overwrite(5)
        data = file.getvalue()
    with pytest.raises(
        InputError, match=rf"^a is an image of an unsupported kind \(.*{case}.*; convert"
    ):
        decode_image(bytes(data), "a")


@pytest.mark.parametrize("compression", ["zlib", "lzw", "jpeg"])
def test_libtiff_prints_nothing(compression, capfd):
    file = io.BytesIO()
    tifffile.imwrite(
        file, values(8, 3).astype(np.uint8), photometric="rgb", compression=compression
    )
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    data = bytearray(file.getvalue())
    data[start + 4 : start + 40] = b"\xff" * 36
    with pytest.raises(InputError, match="damaged"):
        decode_image(bytes(data), "a.tif")
    assert capfd.readouterr().err == ""


def test_libpng_prints_nothing(capfd):
    data = bytearray(cv2.imencode(".png", values(16, 3).astype(np.uint16))[1].tobytes())
    data[-30] ^= 255
    with pytest.raises(InputError, match="damaged"):
        decode_image(bytes(data), "a.png")
    assert capfd.readouterr().err == ""
