import numpy as np
import pytest

from benchmarks import sessions, startup
from benchmarks.cli import main
from benchmarks.pictures import side_by_side
from hfdn_deploy.bundle import Bundle
from hfdn_deploy.images import read_image
from tests.helpers.commands import misused


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("latency --size 0 0", "argument --size: '0' is not a whole number above 0"),
        ("latency --scale 5", "argument --scale: invalid choice: 5"),
        ("tiling --side -1", "argument --side: '-1' is not a whole number above 0"),
    ],
)
def test_arguments_out_of_range(capsys, command, words):
    assert words in misused(capsys, command.replace(" -1", "=-1").split(), main)


def test_sessions_are_measured_against_the_options_as_set(monkeypatch, capsys):
    monkeypatch.setattr(sessions, "SIZE", (16, 24))
    assert main(["sessions", "--rounds", "3", "--precision", "int8"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(sessions.variants())
    assert rows[0].endswith("| 1.000 (1.000–1.000) |")
    assert all(row.startswith("| int8 | ") and " ms " in row for row in rows)


def test_a_start_is_measured_in_parts(tmp_path):
    seconds = startup.start_seconds(tmp_path, 2, "openvino", "int8", True)
    assert len(seconds) == len(startup.COLUMNS)
    assert min(seconds) > 0
    assert read_image(tmp_path / "b.png").shape == (64, 64, 3)
    assert list((tmp_path / "cache" / "engines" / "openvino").glob("*.blob"))


def test_side_by_side_shows_all_at_one_size(photo):
    small, large = photo[:10, :12], photo[:40, :48]
    row = side_by_side({"a": small, "b": large}, zoom=2)
    assert row.shape == (80 + 48, 2 * (96 + 16), 3)
    np.testing.assert_array_equal(row[8:88:8, 8:104:8], small)
    np.testing.assert_array_equal(row[8:88:2, 120:216:2], large)


def test_demo_writes_table_and_picture(tmp_path, bundle, capsys):
    picture = tmp_path / "demo.png"
    assert main(["demo", "--bundle", str(bundle), "--picture", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert "| chelsea | 112x75 | 448x300 |" in printed
    assert f"the checkpoint): ×4 {Bundle(bundle).manifest.weights}\n" in printed
    assert read_image(picture).shape[1] > 4 * 3 * 100
