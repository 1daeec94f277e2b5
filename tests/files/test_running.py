import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

from hfdn_deploy import InputError, Upscaler
from hfdn_deploy.atomic import remove_abandoned
from hfdn_deploy.files import Done, Failed, Job, pending_jobs, plan_jobs, run_jobs
from hfdn_deploy.images import check_fits, read_image, write_image
from hfdn_deploy.tiling import WHOLE, Footprint
from tests.helpers.disks import abandon, writing


@pytest.fixture
def folders(tmp_path):
    """Two folders whose images would collide: a/x.png, a/y.jpg, b/X.PNG."""
    for name in ("a/x.png", "a/y.jpg", "b/X.PNG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_collisions_are_refused_where_case_does_not_count(folders):
    with pytest.raises(InputError, match=r"x\.png and .*X\.PNG would both become .* on disks that"):
        plan_jobs([str(folders / "a"), str(folders / "b")], str(folders / "out"))
    (folders / "a" / "e\u0301.png").touch()
    (folders / "c").mkdir()
    (folders / "c" / "\xe9.png").touch()
    with pytest.raises(InputError, match="would both become"):
        plan_jobs([str(folders / "a"), str(folders / "c")], str(folders / "out"))
    assert not (folders / "out").exists()


def test_no_input_is_overwritten_not_even_anothers(folders):
    with pytest.raises(InputError, match="would overwrite an input"):
        plan_jobs([str(folders / "a" / "x.png")], str(folders / "a" / "x.png"))
    (folders / "a" / "link.png").hardlink_to(folders / "b" / "X.PNG")
    (folders / "c").mkdir()
    (folders / "c" / "y.jpg").symlink_to(folders / "a" / "y.jpg")
    with pytest.raises(InputError, match="would overwrite an input"):
        plan_jobs([str(folders / "b" / "X.PNG"), str(folders / "a" / "y.jpg")], str(folders / "c"))


def test_no_output_is_a_folder(folders):
    """`--resume` would take it for done."""
    (folders / "out" / "x.png").mkdir(parents=True)
    with pytest.raises(InputError, match=r"x\.png is a folder; move it away"):
        plan_jobs([str(folders / "a")], str(folders / "out"))


def test_videos_are_named_one_by_one(folders, caplog):
    for name in ("v.mp4", "w.MKV"):
        (folders / "a" / name).touch()
    jobs, _ = plan_jobs([str(folders / "a")], str(folders / "out"))
    assert [job.source.name for job in jobs] == ["x.png", "y.jpg"]
    assert "a: left out: 2 videos (to be named)" in caplog.text
    jobs, _ = plan_jobs([str(folders / "a" / "*.mp4")], str(folders / "out"))
    assert [job.target for job in jobs] == [folders / "out" / "v.mp4"]


def test_existing_outputs(folders):
    source = folders / "a" / "x.png"
    job = Job(source, folders / "out.png")
    assert pending_jobs([job], False, False) == [job]
    job.target.touch()
    os.utime(job.target, (1, 1))
    for resume, reason in ((False, "there already"), (True, "older than its input")):
        with pytest.raises(InputError, match=rf"out\.png: {reason}; --force overwrites"):
            pending_jobs([job], False, resume)
        assert pending_jobs([job], True, resume) == [job]
    os.utime(source, (1, 1))
    assert pending_jobs([job], False, True) == pending_jobs([job], True, True) == []


def test_batches_hold_images_of_one_size(tmp_path, photo, bundle):
    sizes = {"a": (5, 6), "b": (7, 6), "c": (5, 6), "d": (5, 6), "e": (7, 6)}
    jobs = [Job(tmp_path / f"{name}.tif", tmp_path / "out" / f"{name}.tif") for name in "abcdexyz"]
    for name, (height, width) in sizes.items():
        image = photo[:height, :width] + np.uint8(ord(name))
        write_image(tmp_path / f"{name}.tif", image if name != "c" else image[..., 0])
    write_image(tmp_path / "x.tif", np.full((5, 6), 7, np.float32))
    (tmp_path / "y.tif").touch()
    write_image(tmp_path / "z.tif", photo[:5, :6].astype(np.uint16))
    with Upscaler.load(bundle) as up:
        shapes = []
        run = up.backend.run
        up.backend.run = lambda lr: shapes.append(lr.shape) or run(lr)
        results = list(run_jobs(up, jobs, batch=2))
        up.backend.run = run
        done = {r.job.source.stem for r in results if isinstance(r, Done)}
        failed = {r.job.source.stem: str(r.error) for r in results if isinstance(r, Failed)}
        assert done == set("abcdez")
        assert "y.tif is empty" in failed["y"]
        assert "x.tif: float pixels range from 7.0 to 7.0" in failed["x"]
        # The pair of x and z fails before it runs, then z runs alone.
        assert sorted(shapes) == [(1, 1, 5, 6), (1, 1, 5, 6), (2, 1, 5, 6), (2, 1, 7, 6)]
        for name in sorted(done):
            one = up(read_image(tmp_path / f"{name}.tif")).astype(int)
            assert np.abs(read_image(tmp_path / "out" / f"{name}.tif") - one).max() <= 1


def test_a_batch_is_no_larger_than_memory_allows(tmp_path, photo):
    for i in range(5):
        write_image(tmp_path / f"{i}.png", photo)
    jobs, _ = plan_jobs([str(tmp_path)], str(tmp_path / "out"))
    with Upscaler.load(2, "onnxruntime") as up:
        two = Footprint(
            *photo.shape[:2], up.backend.tiling, channels=3, number=2, held=8 * photo.nbytes
        ).need(WHOLE)
        numbers, run = [], up.backend.run
        up.backend.run = lambda lr: numbers.append(len(lr)) or run(lr)
        assert all(
            isinstance(result, Done)
            for result in run_jobs(Upscaler(up.backend, "", max_memory=two), jobs, batch=50)
        )
    assert numbers == [2, 2, 1]


def test_what_cannot_be_written_is_refused_before_it_runs(tmp_path, photo, bundle):
    write_image(tmp_path / "a.png", np.dstack([photo, photo[..., :1]]))
    write_image(tmp_path / "b.png", photo.astype(np.uint16))
    write_image(tmp_path / "c.png", np.zeros((1, 20_000), np.uint8))
    jobs = [Job(tmp_path / f"{name}.png", tmp_path / f"{name}.jpg") for name in "abc"]
    with Upscaler.load(bundle) as up:
        up.backend.run = None
        failures = [str(result.error) for result in run_jobs(up, jobs)]
    assert "a.jpg: .jpg cannot hold transparency" in failures[0]
    assert "b.jpg: .jpg cannot hold uint16 pixels" in failures[1]
    assert "c.jpg: .jpg cannot hold an image of 80000×4" in failures[2]
    with pytest.raises(InputError, match=r"a\.png: no format can hold an image of 9+×1; request"):
        check_fits(tmp_path / "a.png", 10**20 - 1, 1, 3, "uint8")


def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path, photo):
    """Two runs into one folder: what the other one wrote stays, to the byte."""
    others = b"of another run"
    for name in ("a.png", "b.jpg", "c.tif", "d.png"):
        write_image(tmp_path / "in" / name, photo[:9, :9])
    out = tmp_path / "out"
    jobs, _ = plan_jobs([str(tmp_path / "in")], str(out))
    jobs = pending_jobs(jobs, False, False)
    with Upscaler.load(2, precision="int8") as up:
        run = up.backend.run

        def run_beside_another(lr):
            out.mkdir(exist_ok=True)
            for name in ("a.png", "b.jpg", "c.tif"):  # while the first is computed
                (out / name).write_bytes(others)
            return run(lr)

        up.backend.run = run_beside_another
        results = list(run_jobs(up, jobs))
    assert [type(result) for result in results] == [Failed, Failed, Failed, Done]
    for result in results[:3]:
        reason = "is there already, perhaps from another run; --force overwrites it."
        assert str(result.error) == f"{result.job.target} {reason}"
        assert result.job.target.read_bytes() == others
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.jpg", "c.tif", "d.png"]
    with Upscaler.load(2, precision="int8") as up:
        forced = list(run_jobs(up, pending_jobs(jobs, True, False)))
    assert [type(result) for result in forced] == [Done] * 4
    assert read_image(out / "a.png").shape == (18, 18, 3)


def test_of_two_commands_one_writes(tmp_path, photo):
    write_image(tmp_path / "a.png", photo)
    command = [sys.executable, "-m", "hfdn_deploy", "upscale", str(tmp_path / "a.png")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command += ["-o", str(tmp_path / "out.png"), "--scale", "2", "--precision", "int8"]
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    errors = [process.communicate()[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 2], errors
    assert sum("out.png is there already, perhaps" in error for error in errors) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "out.png"}


def test_what_a_killed_run_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path, photo):
    write_image(tmp_path / "in" / "a.png", photo[:9, :9])
    out = tmp_path / "out"
    abandon(out / "killed.png", b"half")
    (out / ".hfdn-of-nobody").mkdir()
    jobs, _ = plan_jobs([str(tmp_path / "in")], str(out))
    with writing(out / "live.png", b"half"):
        with Upscaler.load(2, precision="int8") as up:
            (result,) = run_jobs(up, jobs)
        assert isinstance(result, Done)
        assert [path.name for path in out.glob(".hfdn-*/*.png")] == ["live.png"]
    assert (out / "a.png").exists()
    remove_abandoned(out)
    assert {path.name for path in out.iterdir()} == {"a.png", ".hfdn-of-nobody"}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    (tmp_path / "disk").mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path / "disk")]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield tmp_path / "disk"
    subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def test_a_full_disk_leaves_no_half_file(small_disk, photo):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    with pytest.raises(InputError, match=r"a\.png cannot be written: No space left on device"):
        write_image(small_disk / "a.png", noise)
    assert not list(small_disk.iterdir())
    write_image(small_disk / "a.png", photo)
    assert read_image(small_disk / "a.png").shape == photo.shape
    with pytest.raises(InputError, match="No space left"):
        write_image(small_disk / "a.png", noise)
    np.testing.assert_array_equal(read_image(small_disk / "a.png"), photo)


def test_nothing_is_computed_for_a_disk_that_takes_nothing(small_disk, tmp_path, photo, bundle):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, photo)
    jobs = plan_jobs([str(tmp_path / "in")], str(small_disk / "out"))[0]
    with suppress(OSError), (small_disk / "rest").open("wb") as file:
        while file.write(bytes(4096)):
            file.flush()
    with Upscaler.load(bundle) as up:
        up.backend.run = None
        full = [str(result.error) for result in run_jobs(up, jobs)]
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        read_only = [str(result.error) for result in run_jobs(up, jobs)]
    reasons = ["No space left on device"] * 2 + ["Read-only file system"] * 2
    places = [small_disk / "out" / name for name in ("a.png", "b.png")] * 2
    expected = [
        f"{place} cannot be written: {reason}; choose another place."
        for place, reason in zip(places, reasons, strict=True)
    ]
    assert full + read_only == expected


def test_a_read_only_disk(small_disk, photo):
    remount = ["mount", "-o", "remount,ro", str(small_disk)]
    subprocess.run(remount, check=True)
    for path in (small_disk / "a.png", small_disk / "folder" / "a.png"):
        with pytest.raises(InputError, match=r"a\.png cannot be written: Read-only file system"):
            write_image(path, photo)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path, photo):
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(InputError, match="cannot be written: Permission denied"):
        write_image(tmp_path / "out" / "a.png", photo)
