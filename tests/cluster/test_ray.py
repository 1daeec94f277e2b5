import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.cli import main as benchmark
from hfdn_deploy import BackendError, BundleError, InputError
from hfdn_deploy import cluster as cluster_package
from hfdn_deploy.cli import main
from hfdn_deploy.cluster import ImageResult
from hfdn_deploy.cluster import ray as on_ray
from hfdn_deploy.files import RECORD, Making, Naming, Writing
from hfdn_deploy.images import write_image
from hfdn_deploy.options import ModelOptions
from tests.helpers.cluster import MODEL, OPTIONS, contents
from tests.helpers.disks import abandon


def lines(folder):
    """Return the list of results by output, after a check that outputs are unique."""
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert len({line["output"] for line in found}) == len(found)
    return {line["output"]: ImageResult(**line) for line in found}


def check(folder, local):
    """Check that outputs equal the local run's, and that the list of results matches them."""
    found = contents(folder)
    del found["results.jsonl"]
    assert found == local
    assert not list(folder.glob(".*"))
    done = {name: line for name, line in lines(folder).items() if line.error is None}
    assert {name: line.sha256 for name, line in done.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in local.items()
    }
    return done


@pytest.mark.slow
def test_same_bytes_poison_and_resume(cluster, pictures, local, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["upscale", str(pictures), "-o", str(out), *MODEL, "--cluster", "ray", "--json"]
    assert main([*command, "--workers", "2"]) == 1
    printed = capsys.readouterr()
    assert "error: 1 of 8 failed" in printed.err
    report = json.loads(printed.out)
    assert "poison.png is truncated or damaged" in report["failures"][0]["error"]
    assert {Path(image["input"]).name for image in report["images"]} == set(local)
    done = check(out, local)
    assert (done["turned.jpg"].width, done["turned.jpg"].height) == (40, 60)
    assert {(one.backend, one.precision) for one in done.values()} == {("openvino", "int8")}
    assert "truncated" in lines(out)["poison.png"].error

    assert main(command) == 2
    assert "--force overwrites, --resume skips" in capsys.readouterr().err
    # Only missing outputs are made: a deleted one, and one older than its input.
    (out / "1.png").unlink()
    os.utime(out / "2.png", (1, 1))
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert main([*command, "--resume"]) == 2
    assert "2.png: older than its input" in capsys.readouterr().err
    assert main([*command, "--resume", "--force"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["skipped"] == 5
    assert {image["output"] for image in report["images"]} == {"1.png", "2.png"}
    check(out, local)
    same = {n for n, t in before.items() if (out / n).stat().st_mtime_ns == t}
    assert same == set(local) - {"1.png", "2.png"}


def test_outputs_that_a_killed_run_did_not_list_are_listed(pictures, local, tmp_path):
    """All images are done, so no cluster is needed."""
    for name in local:
        (tmp_path / name).write_bytes(local[name])
    abandon(tmp_path / "half.png", b"half of a file")
    inputs = [str(pictures / name) for name in local]
    line = ImageResult("0", "0.png", bytes=len(local["0.png"]), sha256="as it was", seconds=1.0)
    (tmp_path / "results.jsonl").write_text(json.dumps(vars(line)) + "\n")
    planned = on_ray.plan(inputs, str(tmp_path), resume=True)
    assert not planned.jobs
    assert list(on_ray.run(planned, OPTIONS)) == []
    found = lines(tmp_path)
    assert found.pop("0.png") == line
    assert {name: one.sha256 for name, one in found.items()} == {
        name: hashlib.sha256(data).hexdigest() for name, data in local.items() if name != "0.png"
    }
    assert not list(tmp_path.glob(".*"))


def test_outputs_are_done_if_the_same_options_made_them(pictures, local, tmp_path):
    inputs = [str(pictures / name) for name in local]
    making = Making(OPTIONS, Writing())
    (tmp_path / "0.png").write_bytes(b"of an earlier run")
    planned = on_ray.plan(inputs, str(tmp_path), force=True, making=making)
    planned.results.begin(planned.unfinished(making).values())
    one = ImageResult("1", "1.png", bytes=len(local["1.png"]), modified=1, input_bytes=1, made={})
    planned.results.add(one)
    # The run was killed before it could list its other outputs.
    for name in sorted(local)[1:]:
        (tmp_path / name).write_bytes(local[name])
    planned = on_ray.plan(inputs, str(tmp_path), force=True, resume=True, making=making)
    assert sorted(job.target.name for job in planned.jobs) == ["0.png", "1.png"]
    with pytest.raises(InputError, match=r"0\.png and 1 more: not known to be done; --force"):
        on_ray.plan(inputs, str(tmp_path), resume=True, making=making)
    with pytest.raises(InputError, match=r"2\.png: made with scale 2, not 4; --force"):
        other = Making(ModelOptions(model=4, precision="int8"), Writing())
        on_ray.plan([str(pictures / "2.png")], str(tmp_path), resume=True, making=other)


def test_names_of_outputs(pictures):
    planned = on_ray.plan([str(pictures)], "out", naming=Naming(format=".webp", suffix="_x2"))
    names = {job.source.name: job.target.name for job in planned.jobs}
    assert names["turned.jpg"] == "turned_x2.webp"
    assert set(names.values()) == {f"{Path(name).stem}_x2.webp" for name in names}


def busy_workers():
    """Return Ray's processes that are upscaling now, by the task in their titles."""
    children = psutil.Process().children(recursive=True)
    return [one for one in children if "MapWorker(Map(_Actor)).submit" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_a_killed_worker_loses_and_doubles_nothing(cluster, tmp_path, photo):
    for i in range(24):
        write_image(tmp_path / "in" / f"{i:02}.png", photo[i:, i:])
    assert main(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "local"), *MODEL]) == 0
    planned = on_ray.plan([str(tmp_path / "in")], str(tmp_path / "out"))
    results = on_ray.run(planned, OPTIONS, workers=2)
    seen = [next(results)]
    while not (busy := busy_workers()):
        time.sleep(0.001)
    busy[0].kill()
    seen += results
    assert not busy[0].is_running()
    assert sorted(result.output for result in seen) == [f"{i:02}.png" for i in range(24)]
    assert [result.error for result in seen] == [None] * 24
    alone = contents(tmp_path / "local")
    del alone[RECORD]
    check(tmp_path / "out", alone)


@pytest.mark.slow
def test_an_image_that_no_worker_survives_is_reported(
    cluster, pictures, local, tmp_path, monkeypatch
):
    monkeypatch.setattr(on_ray, "_RETRIES", 1)

    class DeadlyActor:
        def __init__(self, worker):
            self.worker, backend = worker, worker._up.backend
            run = backend.run
            backend.run = lambda lr: os.kill(os.getpid(), 9) if lr.shape[-1] == 27 else run(lr)

        def __call__(self, row):
            return self.worker.upscale(row)

    monkeypatch.setattr(on_ray, "_Actor", DeadlyActor)
    planned = on_ray.plan([str(pictures / f"{i}.png") for i in range(4)], str(tmp_path / "out"))
    found = {result.output: result for result in on_ray.run(planned, OPTIONS, workers=1)}
    assert "3.png: every worker that took it died" in found["3.png"].error
    assert lines(tmp_path / "out") == found
    check(tmp_path / "out", {f"{i}.png": local[f"{i}.png"] for i in range(3)})


@pytest.mark.slow
def test_what_ends_a_run_is_the_error_that_it_was(cluster, pictures, tmp_path):
    planned = on_ray.plan([str(pictures)], str(tmp_path / "out"))
    for options, kind, words in (
        (ModelOptions(model=tmp_path), BundleError, "is not a bundle"),
        (ModelOptions(model=2, backend="cuda"), BackendError, "onnxruntime-gpu"),
    ):
        with pytest.raises(kind, match=words):
            list(on_ray.run(planned, options, workers=1))
    with pytest.raises(BackendError, match="no machine of the cluster has 1 cores and 1 GPUs"):
        list(on_ray.run(planned, OPTIONS, workers=1, gpus=1))
    with pytest.raises(InputError, match="0 workers"):
        list(on_ray.run(planned, OPTIONS, workers=0))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_cluster_that_is_not_there(pictures, tmp_path):
    command = [sys.executable, "-m", "hfdn_deploy", "upscale", str(pictures), "--cluster", "ray"]
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}
    ran = subprocess.run(
        [*command, "-o", str(tmp_path / "out")], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert ran.returncode == 4
    assert "error: there is no Ray cluster at 127.0.0.1:1 (" in ran.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_planned_is_one_sentence(pictures, tmp_path, photo, capsys, monkeypatch):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "upper").mkdir()
    write_image(tmp_path / "upper" / "0.PNG", photo)
    ray, out = ["--cluster", "ray"], str(tmp_path / "out")
    for arguments, words in [
        ([pictures, "-o", out, "--workers", "2"], "--workers is for --cluster ray"),
        ([pictures, "-o", out, "--gpus-per-worker", "1"], "--gpus-per-worker is for --cluster ray"),
        (["s3://a/b", "-o", out], "s3://a/b is a URI, not a path"),
        ([pictures, "-o", out, *ray, "--batch", "2"], "--batch is for --cluster local"),
        ([pictures, "-o", out, *ray, "--precision", "auto"], "auto is for --cluster local, as"),
        ([pictures, "-o", out, *ray, "-r"], "--recursive is for --cluster local"),
        ([pictures, "-o", f"{out}.png", *ray], "writes to a folder, so name a folder"),
        ([pictures, "-o", "ftp://a/b", *ray], "is in an unknown storage"),
        ([pictures, tmp_path / "upper", "-o", out, *ray], "would both become"),
        ([pictures, "-o", pictures, *ray, "--force"], "would overwrite an input"),
        ([tmp_path / "a.mp4", "-o", out, *ray], "upscale videos with --cluster local"),
        ([tmp_path / "missing", "-o", out, *ray], "missing cannot be read: No such file"),
        ([tmp_path, "-o", out, *ray], "no image in"),
        ([pictures, "-o", tmp_path / "a.mp4" / "b", *ray], "a.mp4 is not a folder"),
    ]:
        assert main(["upscale", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert words in error
        assert not Path(out).exists()
    (tmp_path / "upper" / "results.jsonl").write_text('{"a": 1}')
    with pytest.raises(InputError, match=r"results\.jsonl is not a list of results"):
        on_ray.plan([str(pictures)], str(tmp_path / "upper"))
    # The package may have cached the attribute.
    monkeypatch.delitem(vars(cluster_package), "run", raising=False)
    monkeypatch.setitem(sys.modules, "hfdn_deploy.cluster.ray", None)
    assert main(["upscale", str(pictures), "-o", out, *ray]) == 2
    assert "pip install 'hfdn-deploy[ray]'" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_ends_the_cluster_and_leaves_no_half_file(pictures, local, tmp_path):
    """In its own cluster, beside that of the other tests."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "hfdn_deploy", "upscale", str(pictures), "-o", str(out)]
    with tempfile.TemporaryDirectory(prefix="hfdn-") as temporary:
        process = subprocess.Popen(
            [*command, *MODEL, "--cluster", "ray", "--workers", "1"],
            start_new_session=True, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": temporary},
        )  # fmt: skip
        while process.poll() is None and not list(out.glob("*.png")):
            time.sleep(0.01)
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)
        error = process.communicate()[1]
        assert process.returncode == 130, error
        assert "interrupted; nothing half-written is left." in error
        assert not psutil.wait_procs(children, timeout=20)[1]
        assert not list(Path(temporary).glob("ray-*"))
    found = contents(out)
    found.pop("results.jsonl", None)
    assert found.items() <= local.items()
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_the_benchmark(cluster, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.scale.SIZE", (18, 32))
    command = ["scale", "--workers", "1", "--images", "8", "--side", "8", "--rounds", "1"]
    assert benchmark([*command, "--scale", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (run,) = report["runs"]["1"]
    assert 0 < 4 / run["images_per_second"] < run["seconds"]
    assert [row["format"] for row in report["beside"]] == [".png", ".jpg", ".webp"]
    assert all(row["bytes_out"] > row["bytes_in"] > 0 < row["cpu_ms"] for row in report["beside"])
