"""Outputs that `--resume` skips: made from the same input by the same model and options."""

import json
import logging
import os

import numpy as np
import pytest

from hfdn_deploy import InputError
from hfdn_deploy.atomic import remove_abandoned
from hfdn_deploy.cli import main
from hfdn_deploy.files import RECORD, Job, Making, Writing, pending_jobs, read_record, record_output
from hfdn_deploy.images import read_header, write_image
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.video import VideoOptions

SCALE = ("--scale", "2", "--precision", "int8")


def image(path):
    write_image(path, np.full((4, 6, 3), 90, np.uint8))
    return path


@pytest.fixture
def job(tmp_path):
    """An input, and an output that is not older."""
    return Job(image(tmp_path / "a.png"), image(tmp_path / "out" / "a.jpg"))


def why_not(job, options, writing):
    making = Making(ModelOptions(**options), Writing(**writing))
    try:
        assert pending_jobs([job], False, True, making.facts) == []
    except InputError as error:
        return str(error).partition(": ")[2]
    return None


@pytest.mark.parametrize(
    ("options", "writing", "reason"),
    [
        ({}, {}, None),
        ({"backend": "onnxruntime", "tile": 16, "max_memory": 2**30}, {}, None),
        ({"model": "x2", "precision": "fp32"}, {}, None),
        ({"model": 4}, {}, "made with scale 2, not 4"),
        ({"precision": "int8"}, {}, "made with precision fp32, not int8"),
        ({"ensemble": True}, {}, "made with ensemble False, not True"),
        ({}, {"quality": 50}, "made with quality the default, not 50"),
        ({}, {"keep_metadata": False}, "made with keep metadata True, not False"),
    ],
)
def test_what_makes_an_output_is_remembered(job, options, writing, reason):
    made = Making(ModelOptions(model=2), Writing()).facts(job.target)
    record_output(job.source, job.target, made)
    found = why_not(job, {"model": 2, **options}, writing)
    assert found == (reason and f"{reason}; --force overwrites.")


def test_a_checkpoint_is_known_by_its_hash(job, checkpoint, tmp_path):
    made = Making(ModelOptions(model=checkpoint), Writing()).facts(job.target)
    record_output(job.source, job.target, made)
    assert why_not(job, {"model": checkpoint}, {}) is None
    (tmp_path / "b.safetensors").write_bytes(checkpoint.read_bytes() + b" ")
    other = why_not(job, {"model": tmp_path / "b.safetensors"}, {})
    assert other == "made with another model; --force overwrites."
    with pytest.raises(InputError, match=r"c\.pth cannot be read: No such file"):
        Making(ModelOptions(model=tmp_path / "c.pth"), Writing()).facts(job.target)


def test_another_models_weights_and_a_quality_that_changes_nothing(job, bundle):
    made = Making(ModelOptions(model=4), Writing()).facts(job.target)
    record_output(job.source, job.target, made)
    assert why_not(job, {"model": bundle}, {}) == "made with another model; --force overwrites."
    exact = Job(job.source, image(job.target.with_suffix(".png")))
    record_output(exact.source, exact.target, Making(ModelOptions(), Writing()).facts(exact.target))
    assert why_not(exact, {}, {"quality": 50}) is None


def test_options_of_videos_count_for_videos_alone(tmp_path):
    source = image(tmp_path / "a.png")
    for name, reason in (
        ("a.mp4", "made with crf the default, not 30; --force overwrites."),
        ("a.png", None),
    ):
        one = Job(source, image(tmp_path / "out" / "x.png").rename(tmp_path / "out" / name))
        record_output(one.source, one.target, Making(ModelOptions(), Writing()).facts(one.target))
        assert why_not(one, {}, {"video": VideoOptions(crf=30)}) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda job: (job.target.parent / RECORD).unlink(), "not known to be done"),
        (lambda job: job.target.write_bytes(b"edited"), "changed since it was made"),
        (lambda job: os.utime(job.target), "changed since it was made"),
        (
            lambda job: job.source.write_bytes(b"1") and os.utime(job.source, (1, 1)),
            "another input",
        ),
        (lambda job: os.utime(job.target, (1, 1)), "older than its input"),
    ],
)
def test_what_has_changed_is_not_done(job, change, reason):
    record_output(job.source, job.target, Making(ModelOptions(), Writing()).facts(job.target))
    assert why_not(job, {}, {}) is None
    change(job)
    assert f"{reason}; --force overwrites" in why_not(job, {}, {})


def test_a_record_survives_torn_and_foreign_lines(job):
    record = job.target.parent / RECORD
    made = {"scale": 2}
    record_output(job.source, job.target, made)
    line = record.read_bytes()
    record.write_bytes(b"x" * 2**17 + line + line[: len(line) // 2])  # the last run was killed
    assert read_record(record.parent)["a.jpg"].made == made
    record_output(job.source, job.target, {"scale": 3})
    assert read_record(record.parent)["a.jpg"].made == {"scale": 3}
    record.write_bytes(b'[1]\n{"output": 1}\n' + b"[" * 10_000 + b"\n\xff\n" + line.strip())
    assert read_record(record.parent)["a.jpg"].made == made


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_record_that_somebody_replaced_is_left_alone(job, tmp_path, caplog, kind):
    record = job.target.parent / RECORD
    (tmp_path / "precious").write_text("kept")
    if kind == "link":
        record.symlink_to(tmp_path / "precious")
    elif kind == "pipe":
        os.mkfifo(record)
    else:
        record.mkdir()
    record_output(job.source, job.target, {})
    record_output(job.source, job.target, {})
    (warning,) = caplog.messages
    folder = job.target.parent
    told = f"{folder}: --resume will not know these outputs because {RECORD} cannot be written"
    assert warning.startswith(told)
    assert read_record(record.parent) == {}
    assert (tmp_path / "precious").read_text() == "kept"


def test_a_single_output_has_a_record_only_if_asked(tmp_path, bundle):
    command = ["upscale", str(image(tmp_path / "a.png")), "--model", str(bundle), "-o"]
    assert main([*command, str(tmp_path / "x" / "b.png")]) == 0
    assert main([*command, str(tmp_path / "y" / "b.png"), "--resume"]) == 0
    assert main([*command, str(tmp_path / "y" / "b.png"), "--resume"]) == 0
    assert main([*command, str(tmp_path / "z")]) == 0
    found = {path.parent.name for path in tmp_path.rglob(RECORD)}
    assert found == {"y", "z"}


def test_force_and_resume_redo_what_is_not_done(tmp_path, capsys, caplog):
    for name in ("a", "b", "c"):
        image(tmp_path / "in" / f"{name}.png")
    out = tmp_path / "out"
    command = ["upscale", str(tmp_path / "in"), "-o", str(out)]
    assert main([*command, *SCALE]) == 0
    assert main([*command, "--scale", "4", "--resume"]) == 2
    assert "a.png and 2 more: made with scale 2, not 4; --force" in capsys.readouterr().err
    write_image(out / "b.png", np.zeros((12, 18), np.uint8))
    (out / "c.png").unlink()
    before = (out / "a.png").stat().st_mtime_ns
    caplog.set_level(logging.INFO)
    assert main([*command, *SCALE, "--resume", "--force"]) == 0
    assert "1 of 3 are done already" in caplog.text
    assert "--force --resume: keep outputs that are done, overwrite the others" in caplog.text
    assert (out / "a.png").stat().st_mtime_ns == before
    assert [read_header(path).height for path in sorted(out.glob("*.png"))] == [8, 8, 8]


def test_two_runs_that_resume_share_the_work(tmp_path, bundle, capsys, monkeypatch):
    for name in ("a", "b"):
        image(tmp_path / "in" / f"{name}.png")
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--resume"]
    command += ["--model", str(bundle)]
    at_start = "hfdn_deploy.files.running.remove_abandoned"

    def run_another(_):
        monkeypatch.setattr(at_start, remove_abandoned)
        assert main(command) == 0
        capsys.readouterr()

    monkeypatch.setattr(at_start, run_another)
    assert main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["skipped"], report["images"], report["failures"]) == (2, [], [])


def test_resuming_what_is_done_opens_no_model(tmp_path, bundle, capsys, monkeypatch):
    image(tmp_path / "in" / "a.png")
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--json"]
    for model in (SCALE, ["--model", str(bundle), "--force"]):
        assert main([*command, *model]) == 0
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr("hfdn_deploy.upscaler.Upscaler.open", None)
            assert main([*command, *model, "--resume"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["skipped"], report["images"], report["backend"]) == (1, [], None)
