"""Kinds of files that decoders misread or do not read."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from hfdn_deploy.errors import InputError
from hfdn_deploy.images import decode_header, decode_image
from hfdn_deploy.images.png_chunks import png_chunk


def test_planes_of_grey_and_premultiplied_alpha_are_refused():
    tags = [(256, 2), (257, 1), (258, 8), (259, 1), (262, 1), (273, 200), (277, 2), (278, 1)]
    tags += [(279, 2), (284, 2), (338, 1)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    with pytest.raises(InputError, match=r"a\.tif holds grey and premultiplied alpha in planes"):
        decode_image(data.ljust(204, b"\x7f"), "a.tif")


def test_a_png_whose_animation_has_no_frames_is_a_still():
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (1, 2, 3)).save(file, "PNG")
    data = file.getvalue()
    animation = png_chunk(b"acTL", struct.pack(">II", 1, 0))
    data = data[:33] + animation + data[33:-12] + png_chunk(b"fdAT", bytes(9)) + data[-12:]
    header = decode_header(data, "a.png")
    assert (header.frames, header.animated) == (1, False)
    assert np.unique(decode_image(data, "a.png").reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


def version_5(kind, profile, gamma=0):
    header = struct.pack("<IiiHHI", 124, 1, 1, 1, 24, 0).ljust(56, b"\0") + kind
    header = header.ljust(96, b"\0") + struct.pack("<3I", *[gamma] * 3)
    header = header.ljust(112, b"\0") + struct.pack("<II", 128, len(profile)) + bytes(4)
    return b"BM" + struct.pack("<IHHI", 142 + len(profile), 0, 0, 138) + header + bytes(4) + profile


def test_profiles_of_a_bmp():
    profile = bytes(36) + b"acsp" + bytes(88)
    assert decode_header(version_5(b"DEBM", profile), "a.bmp").metadata.icc == profile
    for kind, gamma, says in [(b"KNIL", 0, "another file"), (bytes(4), 9, "gamma")]:
        (lost,) = decode_header(version_5(kind, profile, gamma), "a.bmp").metadata.lost
        assert says in lost
