"""Images of one size are upscaled in threads, and written one after the other."""

import signal
from itertools import islice

import numpy as np
import pytest

from hfdn_deploy import Upscaler
from hfdn_deploy.errors import BackendError
from hfdn_deploy.files import Done, Failed, Job, run_jobs
from hfdn_deploy.images import write_image

NAMES = [f"{number}{suffix}" for number in range(2) for suffix in (".png", ".jpg", ".tif", ".webp")]


@pytest.fixture(scope="module")
def up():
    with Upscaler.load(2, "openvino", "int8") as up:
        yield up


@pytest.fixture
def jobs(tmp_path, photo):
    """Images of several formats and one size; one is damaged."""
    for number, name in enumerate(NAMES):
        write_image(tmp_path / name, photo[number : 9 + number, :12])
    (tmp_path / NAMES[5]).write_bytes((tmp_path / NAMES[5]).read_bytes()[:300])
    return [Job(tmp_path / name, tmp_path / "out" / name) for name in NAMES]


@pytest.mark.parametrize("prepared", [False, True])
def test_files_are_those_of_one_at_a_time(tmp_path, up, jobs, monkeypatch, prepared):
    monkeypatch.setattr("hfdn_deploy.upscaler.planning.WORTH_PREPARING", 0 if prepared else 10_000)
    results = list(run_jobs(up, jobs))
    alone = [Job(job.source, tmp_path / "alone" / job.target.name) for job in jobs]
    expected = [result for job in alone for result in run_jobs(up, [job])]
    assert [result.job for result in results] == [*jobs[:5], *jobs[6:], jobs[5]]
    order = {job.source: place for place, job in enumerate(jobs)}
    results.sort(key=lambda result: order[result.job.source])
    for result, other in zip(results, expected, strict=True):
        assert type(result) is type(other)
        if isinstance(result, Failed):
            assert str(result.error) == str(other.error)
        else:
            assert result.job.target.read_bytes() == other.job.target.read_bytes()
            assert (result.width, result.height, result.tile) == (other.width, other.height, None)
            assert result.seconds > 0
    assert sum(isinstance(result, Failed) for result in results) == 1


def test_nothing_is_written_after_the_backend_failed(tmp_path, up, jobs, monkeypatch):
    write_image(jobs[2].source, np.zeros((9, 12, 3), np.uint8))
    run = up.backend.run

    def fail(lr):
        if lr.max() < 0.1:
            raise BackendError("on purpose")
        return run(lr)

    monkeypatch.setattr(up.backend, "run", fail)
    with pytest.raises(BackendError, match="on purpose"):
        list(run_jobs(up, jobs[:5]))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*NAMES[:2]}


@pytest.mark.parametrize("number", [1, 3])
def test_nothing_is_written_after_ctrl_c(tmp_path, up, jobs, number):
    results = run_jobs(up, jobs[:5])
    assert len([*islice(results, number)]) == number
    with pytest.raises(KeyboardInterrupt):
        results.throw(KeyboardInterrupt)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*NAMES[:number]}


def test_a_signal_waits_until_what_is_written_has_been_told(tmp_path, up, jobs):
    told = []
    with pytest.raises(KeyboardInterrupt):
        for result in run_jobs(up, jobs[:5]):
            signal.raise_signal(signal.SIGINT)
            told.append(result.job.target.name)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*told} == {NAMES[0]}


def test_sizes_stay_together_and_no_other_order_changes(tmp_path, up, photo):
    for name, height in (("a", 5), ("b", 6), ("c", 5), ("d", 7), ("e", 6)):
        write_image(tmp_path / f"{name}.png", photo[:height, :8])
    jobs = [Job(tmp_path / f"{name}.png", tmp_path / "out" / f"{name}.png") for name in "abcde"]
    results = list(run_jobs(up, jobs))
    assert [result.job.source.stem for result in results] == ["a", "c", "b", "e", "d"]
    assert all(isinstance(result, Done) for result in results)
    assert [result.height for result in results] == [10, 10, 12, 12, 14]
