"""`hfdn info` on videos."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest

from hfdn_deploy.cli import main
from tests.helpers.clips import noise, write_clip


def info(capsys, path):
    assert main(["info", str(path), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_info_on_a_video(tmp_path, capsys):
    facts = {"colorspace": 5, "color_primaries": 5, "color_trc": 6, "color_range": 1}
    path = write_clip(
        tmp_path / "a.mp4", noise(5), sound="aac", rotation=90,
        sample_aspect_ratio=Fraction(4, 3), **facts,
    )  # fmt: skip
    found = info(capsys, path)
    assert found.pop("container").startswith("mov,mp4")
    assert found.pop("seconds") == pytest.approx(0.2, abs=0.03)
    assert found == {
        "kind": "video", "codec": "h264", "bytes": path.stat().st_size, "width": 24, "height": 16,
        "frames": 5, "rate": 25.0, "pixel_format": "yuv420p", "pixel_shape": "4/3", "rotation": 90,
        "colours": {
            "matrix": "bt470bg", "primaries": "bt470bg", "transfer": "smpte170m", "range": "studio",
        },
        "sound": ["aac 48000 Hz stereo eng"], "subtitles": [], "changes": [], "refused": None,
    }  # fmt: skip
    assert main(["info", str(path)]) == 0
    assert "codec: h264\n" in capsys.readouterr().out


def test_info_on_a_video_that_is_changed_or_refused(tmp_path, capsys):
    rgb = av.VideoFrame.from_ndarray(np.zeros((16, 24, 3), np.uint8), "rgb24")
    path = write_clip(tmp_path / "a.avi", [rgb.reformat(format="bgr24")] * 2, codec="rawvideo")
    found = info(capsys, path)
    assert found["changes"] == ["bgr24 to yuv444p"]
    assert found["colours"] == {
        "matrix": "smpte170m", "primaries": "bt709", "transfer": "iec61966_2_1", "range": "studio",
    }  # fmt: skip
    path.write_bytes(path.read_bytes()[:-1000])
    assert "a.avi is truncated" in info(capsys, path)["refused"]
    told = write_clip(tmp_path / "a.mkv", noise(2), codec="ffv1", field_order=2)
    assert info(capsys, told)["changes"] == ["deinterlaced"]
