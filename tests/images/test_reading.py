import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    FORMATS,
    ImageReader,
    find_images,
    open_image,
    read_header,
    read_image,
    reading,
    write_image,
)
from tests.helpers.images import chunk, png


def test_the_first_of_several_pictures(tmp_path, photo, caplog):
    frames = [Image.fromarray(photo), Image.fromarray(photo[::-1].copy())]
    for name in ("a.webp", "a.png", "a.tif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(read_image(tmp_path / name), photo)
        assert "only the first" in caplog.text
        caplog.clear()


def test_the_second_image_of_an_mpo_is_mentioned(tmp_path, photo, caplog):
    path = tmp_path / "a.jpg"
    image = Image.fromarray(photo)
    image.save(path, "MPO", save_all=True, append_images=[image])
    assert read_image(path).shape == photo.shape
    assert caplog.messages == [f"{path}: only the first of its images is read"]


def test_bad_files_are_named(tmp_path, photo):
    write_image(tmp_path / "whole.png", photo)
    np.testing.assert_array_equal(read_image(str(tmp_path / "whole.png")), photo)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "header.png").write_bytes((tmp_path / "whole.png").read_bytes()[:30])
    for name in ("empty.png", "text.png", "header.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            read_image(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path, tmp_path / "pipe.png"):
        with pytest.raises(InputError, match="cannot be read: it is not a regular file"):
            read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp", ".avif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_half_a_file_is_no_image(tmp_path, photo, suffix, dtype):
    if dtype == "uint16" and suffix not in (".png", ".tif"):
        pytest.skip("8 bits only")
    path = tmp_path / f"a{suffix}"
    write_image(path, photo.astype(dtype))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    with pytest.raises(InputError, match=r"truncated or damaged"):
        read_image(path)


def bombs():
    """Yield files with headers of 60,000×60,000 pixels and few bytes behind them."""
    side = 60_000
    yield (
        "a.png",
        png(np.zeros((1, 1), np.uint8), 2, 8).replace(
            chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)),
            chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        ),
    )
    for suffix, old, new in [
        ("jpg", b"\x08\x00\x09\x00\x07", struct.pack(">BHH", 8, side, side)),
        ("bmp", struct.pack("<II", 7, 9), struct.pack("<II", side, side)),
        ("avif", struct.pack(">II", 7, 9), struct.pack(">II", side, side)),
    ]:
        file = io.BytesIO()
        Image.new("RGB", (7, 9)).save(file, {"jpg": "JPEG"}.get(suffix, suffix.upper()))
        assert file.getvalue().count(old) == 1
        yield f"a.{suffix}", file.getvalue().replace(old, new)
    file = io.BytesIO()
    tags = [(256, "I", 1, side, True), (257, "I", 1, side, True)]
    tifffile.imwrite(file, np.zeros((9, 7, 3), np.uint8), photometric="rgb")
    data = bytearray(file.getvalue())
    for tag, *_ in tags:
        where = data.index(struct.pack("<HHI", tag, 4, 1)) if tag else 0
        data[where + 8 : where + 12] = struct.pack("<I", side)
    yield "a.tif", bytes(data)


@pytest.mark.parametrize(
    ("name", "data"), list(bombs()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_a_bomb_is_refused_from_its_header(tmp_path, name, data, monkeypatch):
    (tmp_path / name).write_bytes(data)
    for kind in FORMATS.values():
        monkeypatch.setattr(kind, "decode", None)
    # The AVIF decoder refuses it even earlier.
    message = "truncated or damaged" if name == "a.avif" else "is 60000×60000 pixels, more than"
    for read in (read_image, read_header):
        with pytest.raises(InputError, match=message):
            read(tmp_path / name)


def test_what_memory_does_not_hold_is_refused(tmp_path, photo, monkeypatch):
    write_image(tmp_path / "a.webp", photo)
    monkeypatch.setattr(reading, "free_memory", lambda: photo.size * 3)
    with pytest.raises(InputError, match=r"a\.webp needs about .* GiB of memory"):
        read_image(tmp_path / "a.webp")


def test_images_of_a_folder(tmp_path):
    for name in ("b.png", "A.JPG", ".hidden.png", "note.txt", "sub/c.tif", ".git/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["A.JPG", "b.png"]
    below = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path, True)]
    assert below == ["A.JPG", "b.png", "sub/c.tif"]
    assert find_images(tmp_path / "nowhere") == []


@pytest.mark.parametrize("suffix", sorted(FORMATS))
def test_a_reader_reads_the_header_once(tmp_path, photo, suffix, monkeypatch):
    path, kind = tmp_path / f"a{suffix}", FORMATS[suffix]
    write_image(path, photo)
    asked, read = [], kind._read_header
    monkeypatch.setattr(kind, "_read_header", lambda self: asked.append(self._file) or read(self))
    for source in (path, path.read_bytes()):
        asked.clear()
        with ImageReader(source) as reader:
            file = reader._file
            rows = reader.rows()
            assert (rows is not None) == kind.banded
            if rows is not None:
                np.testing.assert_array_equal(rows[:, :], photo)
            assert reader.read().shape == photo.shape
        assert asked.count(file) == 1
        assert reader.header.width == photo.shape[1]
        for again in (reader.read, reader.rows):
            with pytest.raises(ValueError, match="was read and closed; open it again"):
                again()


@pytest.mark.parametrize("name", ["a.png", "text.png"])
def test_no_file_stays_open(tmp_path, photo, name, recwarn):
    write_image(tmp_path / "a.png", photo)
    (tmp_path / "text.png").write_text("no image")
    files = Path("/proc/self/fd")
    before = len(list(files.iterdir()))
    for read in (read_header, read_image, open_image):
        try:
            read(tmp_path / name)
        except InputError as error:
            assert name in str(error)
        assert len(list(files.iterdir())) == before
    assert not [warning for warning in recwarn if warning.category is ResourceWarning]
