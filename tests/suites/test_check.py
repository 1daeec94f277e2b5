"""The harness finds nothing in good files, and finds each kind of injected fault."""

import os
import re

import numpy as np
import pytest
from PIL import Image, ImageOps

from hfdn_deploy.files import Writing, run_jobs
from hfdn_deploy.images import read_header, read_image
from tests.helpers.metadata import SRGB, exif
from tests.suites import check, decoders, metadata
from tests.suites.check import check_file
from tests.suites.pixels import turned
from tests.suites.sources import find_images

pytestmark = pytest.mark.skipif(
    bool(decoders.missing() or metadata.missing()),
    reason=str(decoders.missing() or metadata.missing()),
)


@pytest.fixture
def image(photo, tmp_path):
    """Return a JPEG of 32×24 pixels with an orientation and a profile."""
    path = tmp_path / "photo.jpg"
    Image.fromarray(photo[:24, :32]).save(path, exif=exif(6), icc_profile=SRGB, dpi=(72, 72))
    return path


def kinds(path, largest=1e5):
    result = check_file(path, largest, model=None)
    return {kind for kind, _ in result.findings}, result


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_those_of_pillow(orientation, photo):
    image = Image.fromarray(photo[:24, :32])
    image.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(turned(photo[:24, :32], orientation), expected)


def test_nothing_is_wrong_with_a_turned_image(image):
    found, result = kinds(image)
    assert (found, result.outcome, result.compared) == (set(), "upscaled", True)
    assert result.tags > 20


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_the_pixels_of_each_format_are_compared(suffix, photo, tmp_path):
    Image.fromarray(photo[:24, :32]).save(tmp_path / f"photo{suffix}")
    found, result = kinds(tmp_path / f"photo{suffix}")
    assert result.compared
    assert "wrong pixels" not in found


def test_what_no_frame_of_a_gif_covers_is_transparent(tmp_path):
    still = Image.new("P", (4, 4), 1)
    still.putpalette([255, 255, 255, 255, 0, 0])  # the background is the first colour
    still.save(tmp_path / "a.gif")
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = b"\x06\0\x06\0"
    (tmp_path / "a.gif").write_bytes(data)
    found, result = kinds(tmp_path / "a.gif")
    assert (found, result.compared) == (set(), True)


def test_a_suite_that_says_its_pixels_is_the_judge(tmp_path):
    folder = tmp_path / "gif-test-suite"
    folder.mkdir()
    Image.new("RGB", (2, 1), (255, 0, 0)).save(folder / "a.gif")
    (folder / "a.conf").write_text("[config]\nwidth=2\nheight=1\nframes=f,g\n[f]\npixels=a.rgba\n")
    (folder / "a.rgba").write_bytes(b"\xff\0\0\xff\xff\0\0\xff")
    assert not kinds(folder / "a.gif")[0]
    (folder / "a.rgba").write_bytes(b"\xff\0\0\xff\xff\0\0\0")
    assert kinds(folder / "a.gif")[0] == {"wrong pixels"}


def test_a_wrong_pixel_is_noticed(image, monkeypatch):
    def read(path):
        pixels = read_image(path)
        pixels[3, 5, 1] ^= 16
        return pixels

    monkeypatch.setattr(check, "read_image", read)
    found, result = kinds(image)
    assert found == {"wrong pixels"}
    assert any(re.search(r"read: up to 1[3-9].*0\.1%", text) for _, text in result.findings)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_wrong_pixel_that_was_written_is_noticed(suffix, image, monkeypatch):
    def run(up, jobs):
        yield from run_jobs(up, jobs)
        (job,) = jobs
        if job.target.suffix == suffix:
            with Image.open(job.target) as copy:
                Image.fromarray(255 - np.asarray(copy)).save(job.target, exif=copy.getexif())

    monkeypatch.setattr(check, "run_jobs", run)
    _, result = kinds(image)
    wrong = [text for kind, text in result.findings if kind == "wrong pixels"]
    assert [text.split()[1] for text in wrong] == [f"{suffix}:"]


def test_lost_tags_are_noticed(image, monkeypatch):
    bare = Writing(keep_metadata=False)
    monkeypatch.setattr(check, "run_jobs", lambda up, jobs: run_jobs(up, jobs, bare))
    found, result = kinds(image)
    assert found == {"metadata"}
    for suffix in (".jpg", ".png"):
        assert ("metadata", f"{suffix}: lost IFD0:Make: Maker") in result.findings
        assert any(text.startswith(f"{suffix}: lost GPS") for _, text in result.findings)


def test_foreign_exceptions_and_lines_of_libraries_are_noticed(image, monkeypatch):
    def read(path):
        os.write(2, b"libpng warning: odd\n")
        raise KeyError(7)

    monkeypatch.setattr(check, "read_header", read)
    found, result = kinds(image)
    assert found == {"foreign exceptions", "stderr"}
    assert "KeyError: 7" in dict(result.findings)["foreign exceptions"]
    assert dict(result.findings)["stderr"] == "libpng warning: odd"


def test_files_left_behind_are_noticed(image, monkeypatch):
    def run(up, jobs):
        (jobs[0].target.parent / "half").touch()
        return run_jobs(up, jobs)

    monkeypatch.setattr(check, "run_jobs", run)
    assert kinds(image)[1].findings == [("left behind", "half")]


def test_an_intact_file_called_damaged_is_noticed(image, monkeypatch):
    def read(path):
        return read_header(path.with_name("cut.jpg"))

    image.with_name("cut.jpg").write_bytes(b"\xff\xd8\xff")
    monkeypatch.setattr(check, "read_header", read)
    assert kinds(image)[0] == {"called damaged"}


def test_a_damaged_file_may_be_called_so(image):
    image.write_bytes(image.read_bytes()[:-200])
    found, result = kinds(image)
    assert (found, result.outcome) == (set(), "corrupt")
    assert "copy it again" in result.said


def test_large_images_are_left_out(image):
    assert kinds(image, largest=24 * 32 - 1)[1].outcome == "larger"


def test_images_are_found_by_name_and_by_content(image):
    image.with_name("kept").write_bytes(image.read_bytes())
    for name in ("raw.dng", "notes.txt"):
        image.with_name(name).write_bytes(b"II*\0" if name == "raw.dng" else b"text")
    image.with_name("empty.png").touch()
    names = [path.name for path in find_images(image.parent)]
    assert names == ["empty.png", "kept", "photo.jpg"]
