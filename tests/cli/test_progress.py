"""The bars of a run, and `--quiet`."""

import io
import re
from pathlib import Path

import av
import numpy as np
import pytest

from hfdn_deploy import InputError
from hfdn_deploy.cli import main
from hfdn_deploy.cli.progress import RunBars, pixels_of
from hfdn_deploy.files import Done, Failed, Job
from hfdn_deploy.images import write_image
from tests.helpers.clips import noise, write_clip


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def lines(self):
        """The texts that were drawn, in order, without bars and cursor movements."""
        drawn = re.split(r"\r|\n|\x1b\[A", self.getvalue())
        return [re.sub(r"\|.*\|", "|", line).strip() for line in drawn if line.strip()]


@pytest.fixture
def terminal(monkeypatch):
    """Make stderr a terminal from the call on, and return its screen."""
    monkeypatch.setenv("TQDM_MININTERVAL", "0")

    def begin():
        shown = Terminal()
        monkeypatch.setattr("sys.stderr", shown)
        return shown

    return begin


def test_a_line_for_the_run_above_one_for_the_file(terminal):
    image, video, bad = (Job(Path(name), Path("out")) for name in ("a\x1b.png", "b.mp4", "c.png"))
    shown = terminal()
    with RunBars({image: 1000, video: 3000, bad: 4000}) as bars:
        bars.show(image, 250, 500)
        bars.finish(Done(image, 1, 1, 1.0))
        bars.show(video, 1, 3)
        bars.show(video, 2, 3)
        bars.finish(Done(video, 1, 1, 1.0))
        bars.show(bad, 1, 4)
        bars.finish(Failed(bad, InputError("it is bad")))
    lines = shown.lines()
    for start in (
        "0/3 files:   0%| 0.00/8.00k [", "a\\x1b.png:   0%| 0.00/500 [",
        "1/3 files:  12%| 1.00k/8.00k [", "b.mp4:   0%| 0/3 [",
        "2/3 files:  50%| 4.00k/8.00k [", "c.png:   0%| 0.00/4.00 [",
        "3/3 files: 100%| 5.00k/5.00k [",
    ):  # fmt: skip
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert lines[-1].startswith("3/3 files: 100%")
    left = re.search(r"4\.00k/8\.00k \[\d\d:\d\d<\d\d:\d\d, .*px/s\]", "\n".join(lines))
    assert left, "the time that is left"


def test_the_pixels_of_a_run_come_from_headers(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    (tmp_path / "b.png").write_text("no image")
    write_clip(tmp_path / "c.mp4", noise(3))
    found = [pixels_of(Job(tmp_path / f, Path())) for f in ("a.png", "b.png", "c.mp4", "d.mp4")]
    assert found == [24, 0, 3 * 16 * 24, 0]


def test_the_pixels_of_a_video_come_without_its_warnings(tmp_path, caplog):
    rgb = av.VideoFrame.from_ndarray(np.zeros((16, 24, 3), np.uint8), "rgb24")
    path = write_clip(tmp_path / "a.avi", [rgb.reformat(format="bgr24")] * 2, codec="rawvideo")
    assert pixels_of(Job(path, Path())) == 2 * 16 * 24
    assert not caplog.records


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_shows_errors_alone(terminal, tmp_path, bundle, capsys, quiet):
    write_image(tmp_path / "in" / "a.png", np.zeros((4, 6), np.uint8))
    (tmp_path / "in" / "b.png").write_text("no image")
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(bundle)]
    shown = terminal()
    assert main([*command, *["--quiet"] * quiet]) == 1
    assert ("2/2 files: 100%" in shown.getvalue()) is not quiet
    failed, error = shown.getvalue().rstrip("\n").split("\n")[-2:]
    assert failed.startswith("failed: ") and error.startswith("error: 1 of 2 failed")
    assert capsys.readouterr().out == ("" if quiet else f"{tmp_path}/out/a.png\n")


def test_nothing_is_drawn_where_nobody_sees_it(tmp_path, bundle, capsys):
    write_image(tmp_path / "in" / "a.png", np.zeros((4, 6), np.uint8))
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(bundle)]
    assert main(command) == 0
    assert "files:" not in capsys.readouterr().err
