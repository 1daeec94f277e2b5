"""Writing each format to a disk that fills up at any byte: the file is complete or absent."""

import numpy as np
import pytest

from hfdn_deploy.cli import main
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import FORMATS, encode_image, read_image, write_image
from tests.helpers.commands import refused
from tests.helpers.disks import room_for, sizes_below

SLOW = (".avif", ".gif", ".heic", ".jxl")
# Encoders write pieces of up to 64 KiB.
KINDS = [
    (suffix, shape, count)
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp", ".gif", ".avif", ".heic", ".jxl")
    for shape, count in (((12, 16), 100), ((200, 250), 12))
    if suffix not in SLOW or shape == (12, 16)
]


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_every_format_is_tried():
    assert {FORMATS[suffix] for suffix, *_ in KINDS} == set(FORMATS.values())


@pytest.mark.parametrize(("suffix", "shape", "count"), KINDS)
def test_a_file_is_whole_or_missing(tmp_path, suffix, shape, count):
    if reason := FORMATS[suffix].why_missing():
        pytest.skip(reason)
    count = 10 if suffix in SLOW[1:] else count
    check(tmp_path, suffix, shape, count)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_of_several_bands_is_whole_or_missing(tmp_path, suffix, small_bands):
    check(tmp_path, suffix, (100, 60), 20)


def check(tmp_path, suffix, shape, count):
    path = tmp_path / "out" / f"a{suffix}"
    image = noise(*shape)
    whole = encode_image(image, path)
    for size in sizes_below(len(whole), count):
        with pytest.raises(InputError, match="be written: File too large"), room_for(size):
            write_image(path, image)
        assert not list(tmp_path.iterdir()), size
    with room_for(len(whole)):
        write_image(path, image)
    assert path.read_bytes() == whole
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_what_was_there_stays(tmp_path):
    path = tmp_path / "a.jpg"
    write_image(path, noise(3, 3))
    before = path.read_bytes()
    with pytest.raises(InputError, match="File too large"), room_for(1000):
        write_image(path, noise(40, 40))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_fails_and_resumes(tmp_path, capsys):
    write_image(tmp_path / "in.png", noise(30, 40))
    output = tmp_path / "out.jpg"
    command = ["upscale", str(tmp_path / "in.png"), "-o", str(output), "--scale", "2"]
    with room_for(6000):
        found = refused(capsys, *command)
    assert found == (2, f"error: {output} cannot be written: File too large; choose another place.")
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]
    assert main([*command, "--resume"]) == 0
    assert read_image(output).shape == (60, 80, 3)
