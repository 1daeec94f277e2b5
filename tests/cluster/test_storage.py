import pytest

from hfdn_deploy import InputError
from hfdn_deploy.cluster import locate
from hfdn_deploy.cluster import ray as on_ray
from hfdn_deploy.files import Writing
from hfdn_deploy.images import write_image
from tests.helpers.cluster import OPTIONS
from tests.helpers.disks import room_for, sizes_below


def test_a_file_on_a_disk_is_whole_or_missing(tmp_path):
    disk, path = locate(str(tmp_path / "out" / "a.bin"))
    data = bytes(range(256)) * 400
    for size in sizes_below(len(data), 60):
        with pytest.raises(InputError, match="bin cannot be written: File too"), room_for(size):
            disk.write(path, data)
        assert not list(tmp_path.iterdir()), size
    with room_for(len(data)):
        disk.write(path, data)
    assert path.read_bytes() == data
    assert [found.name for found in path.parent.iterdir()] == ["a.bin"]


def test_a_worker_whose_disk_fills_says_so(tmp_path, photo):
    """In this process, in the same way as in Ray's workers."""
    write_image(tmp_path / "in" / "a.jpg", photo)
    planned = on_ray.plan([str(tmp_path / "in")], str(tmp_path / "out"))
    worker = on_ray._Worker(OPTIONS, planned.source, planned.target, Writing())
    (job,) = planned.jobs
    row = {"source": str(job.source), "target": str(job.target), "overwrite": job.overwrite}
    with room_for(3000):
        facts = worker.upscale(worker.read(row))
    assert "a.jpg cannot be written: File too large" in facts["result"]
    assert not (tmp_path / "out").exists()
    facts = worker.upscale(worker.read(row))
    assert '"width": 166' in facts["result"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg"]


def test_an_output_of_another_run_is_kept_and_ones_own_is_done(tmp_path):
    """The block of a worker that is killed after writing is repeated."""
    disk, path = locate(str(tmp_path / "a.bin"))
    disk.write(path, b"mine", overwrite=False)
    disk.write(path, b"mine", overwrite=False)
    with pytest.raises(InputError, match=r"a\.bin already exists.*--force overwrites it"):
        disk.write(path, b"theirs", overwrite=False)
    assert path.read_bytes() == b"mine"
    disk.write(path, b"theirs")
    assert path.read_bytes() == b"theirs"


def test_force_reaches_the_workers(tmp_path, photo):
    write_image(tmp_path / "in" / "a.png", photo[:9, :9])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"of another run")
    with pytest.raises(InputError, match="there already; --force overwrites"):
        on_ray.plan([str(tmp_path / "in")], str(tmp_path / "out"))
    planned = on_ray.plan([str(tmp_path / "in")], str(tmp_path / "out"), force=True)
    assert [job.overwrite for job in planned.jobs] == [True]
