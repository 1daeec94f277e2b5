"""Folders of any files under any names, options for their outputs, and damaged records."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy import InputError
from hfdn_deploy.files import (
    RECORD,
    Job,
    Naming,
    pending_jobs,
    plan_jobs,
    read_record,
    record_output,
)
from hfdn_deploy.images import FORMATS, encode_image, write_image
from tests.helpers.mutations import damaged, rewritten
from tests.helpers.profiles import fuzz

CASES = 1500
PIXELS = np.zeros((2, 3, 3), np.uint8)
CONTENTS = [encode_image(PIXELS, Path(f"a{suffix}")) for suffix in (".png", ".jpg", ".tif", ".bmp")]
CONTENTS += [b"", b"BM", b"no image", b"MM\0*"]
SUFFIXES = ["", ".png", ".JPG", ".jpe", ".tif", ".heic", ".txt", ".mp4", ".nef", ".5", ".", ".x y"]
LETTERS = st.characters(exclude_characters="/\0", exclude_categories=["Cs"])


@st.composite
def names(draw):
    stem = draw(st.one_of(st.sampled_from("abcA"), st.text(LETTERS, min_size=1, max_size=12)))
    name = stem + draw(st.sampled_from(SUFFIXES))
    return "x" if name in (".", "..") else name


NAMING = st.builds(
    Naming,
    recursive=st.booleans(),
    format=st.sampled_from([None, None, ".webp", ".jpg"]),
    suffix=st.one_of(st.just(""), st.text(LETTERS, max_size=5)),
)


@fuzz(CASES)
@given(
    files=st.dictionaries(names(), st.sampled_from(CONTENTS), max_size=5),
    below=st.dictionaries(names(), st.sampled_from(CONTENTS), max_size=3),
    naming=NAMING,
    how=st.sampled_from(["folder", "names", "glob"]),
)
def test_each_file_has_an_output_of_its_own_or_is_reported(files, below, naming, how):
    with TemporaryDirectory() as place:
        folder, out = Path(place, "in"), Path(place, "out")
        for parent, content in ((folder, files), (folder / "below", below)):
            parent.mkdir()
            for name, data in content.items():
                (parent / name).is_dir() or (parent / name).write_bytes(data)
        given = {"folder": [str(folder)], "names": sorted(map(str, folder.iterdir()))}
        given["glob"] = [str(folder / "*")]
        try:
            jobs, unusable = plan_jobs(given[how] or [str(folder)], str(out), naming)
        except InputError as error:
            assert str(error).endswith(".")
            return
        targets = [str(job.target).casefold() for job in jobs]
        assert len(set(targets)) == len(targets)
        for job in jobs:
            assert job.source.is_file()
            assert job.target.is_relative_to(out) and ".." not in job.target.parts
            assert naming.recursive or job.target.parent == out
            assert job.target.stem.endswith(naming.suffix) or naming.suffix[-1:] in (".", " ")
            image = job.target.suffix.lower() in FORMATS
            assert image or job.target.suffix.lower() == ".mp4"
            assert not image or naming.format in (None, job.target.suffix)
        if how != "folder":
            known = {str(job.source) for job in jobs} | {one.name for one in unusable}
            visible = [p for p in folder.iterdir() if p.is_file()]
            hidden = {str(p) for p in visible if p.name.startswith(".")} if how == "glob" else set()
            assert {str(p) for p in visible} - hidden <= known


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Return a finished and recorded job."""
    folder = tmp_path_factory.mktemp("record")
    made = Job(folder / "a.png", folder / "out" / "a.png")
    for path in (made.source, made.target):
        write_image(path, PIXELS)
    record_output(made.source, made.target, {"scale": 2, "quality": None})
    record_output(made.source, made.target.with_name("b.png"), {})  # its output is missing
    return made


def check(job, text):
    """Check that a job counts as done only as the record describes it."""
    record = job.target.parent / RECORD
    good = record.read_bytes()
    whole = read_record(record.parent)["a.png"]
    record.write_bytes(text)
    try:
        made = {"scale": 2, "quality": None}
        try:
            done = pending_jobs([job], False, True, lambda target: made) == []
        except InputError:
            done = False
        found = read_record(record.parent).get("a.png")
        # A choice that is not recorded has its default.
        said = done and {name: value for name, value in found.made.items() if value is not None}
        assert not done or (said, found.bytes) == ({"scale": 2}, whole.bytes)
        record_output(job.source, job.target, {"scale": 3})
        assert read_record(record.parent)["a.png"].made == {"scale": 3}
    finally:
        record.write_bytes(good)


@fuzz(CASES)
@given(data=st.data())
def test_damaged_records(job, data):
    check(job, data.draw(damaged([(job.target.parent / RECORD).read_bytes()])))


@fuzz(CASES)
@given(data=st.data())
def test_records_with_a_value_changed(job, data):
    line = (job.target.parent / RECORD).read_bytes()
    changed = data.draw(rewritten(json.loads(line)))
    check(job, json.dumps(changed).encode(errors="surrogatepass"))


@fuzz(CASES)
@given(data=st.data())
def test_damaged_results_of_a_cluster(tmp_path_factory, data):
    pytest.importorskip("pyarrow")
    from hfdn_deploy.cluster import ImageResult, plan

    folder = tmp_path_factory.mktemp("results")
    write_image(folder / "in" / "a.png", PIXELS)
    write_image(folder / "out" / "a.png", PIXELS)
    line = ImageResult("a.png", "a.png", bytes=5, modified=7, input_bytes=9, made={"scale": 2})
    text = json.dumps(vars(line)).encode() + b"\n"
    (folder / "out" / "results.jsonl").write_bytes(data.draw(damaged([text, 2 * text])))
    try:
        plan([str(folder / "in")], str(folder / "out"), resume=True)
    except InputError as error:
        assert "results.jsonl is not a list of results" in str(error) or "--force" in str(error)
