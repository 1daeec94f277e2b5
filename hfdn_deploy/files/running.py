"""Upscaling files, one after the other."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hfdn_deploy.atomic import check_writable, remove_abandoned
from hfdn_deploy.errors import InputError, named
from hfdn_deploy.files.animation import is_animation, upscale_animation
from hfdn_deploy.files.planning import Job
from hfdn_deploy.files.writing import DEFAULTS, Writing
from hfdn_deploy.images import (
    Banded,
    Header,
    Image,
    ImageReader,
    Rows,
    check_fits,
    encode_image,
    read_header,
    write_image,
    writes_bands,
)
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import ImagePlan, Upscaler
from hfdn_deploy.video import is_video, upscale_video

FileProgress = Callable[[Job, int, int], None]
"""Takes a job, and how many pixels of its image or frames of its video are done of how many."""


@dataclass(frozen=True)
class Done:
    """One that was written."""

    job: Job
    width: int
    height: int
    """Of the upscaled image."""
    seconds: float
    """From reading to writing; in a batch, its share."""
    frames: int = 1
    tile: int | None = None
    """Side of the tiles that it was upscaled in; None for the whole."""


@dataclass(frozen=True)
class Failed:
    """One that was not."""

    job: Job
    error: InputError


def run_jobs(
    up: Upscaler,
    jobs: Sequence[Job],
    writing: Writing = DEFAULTS,
    batch: int = 1,
    progress: FileProgress | None = None,
) -> Iterator[Done | Failed]:
    """Upscale files; a bad one does not stop the others.

    What runs that were killed left in the folders of the outputs is removed first.

    Args:
        up: runs.
        jobs: what to do, in this order, but for images of one size if there are batches.
        writing: how the outputs are written.
        batch: the most images of one size that run at once.
        progress: called after each tile or frame, for the first file of a batch.

    Raises:
        BackendError: the backend failed.
    """
    for folder in {job.target.parent for job in jobs}:
        remove_abandoned(folder)
    stills = []
    for job in jobs:
        if is_video(job.source):
            yield _video(up, job, writing, _of(job, progress))
        elif is_animation(job.source, job.target):
            yield _animation(up, job, writing, _of(job, progress))
        else:
            stills.append(job)
    for group in _groups(up, stills, batch):
        start = time.perf_counter()
        loaded: list[_Loaded] = []
        for job in group:
            try:
                loaded.append(_load(up, job, len(group)))
            except InputError as error:
                yield Failed(job, error)
        for one, image in _upscale(up, loaded, _of(group[0], progress)):
            if isinstance(image, InputError):
                yield Failed(one.job, image)
                continue
            try:
                _write(one, image, writing)
            except InputError as error:
                yield Failed(one.job, error)
                continue
            seconds = (time.perf_counter() - start) / len(group)
            yield Done(one.job, image.shape[1], image.shape[0], seconds, tile=one.plan.side)


def _of(job: Job, progress: FileProgress | None) -> Progress | None:
    return partial(progress, job) if progress else None


def _write(one: "_Loaded", image: Image | Banded, writing: Writing) -> None:
    metadata = writing.kept(one.header.metadata)
    write_image(one.job.target, image, metadata, writing.quality, overwrite=one.job.overwrite)


def _video(up: Upscaler, job: Job, writing: Writing, progress: Progress | None) -> Done | Failed:
    try:
        facts = upscale_video(
            up, job.source, job.target, writing.keep_metadata, writing.video,
            overwrite=job.overwrite, progress=progress,
        )  # fmt: skip
    except InputError as error:
        return Failed(job, error)
    return Done(job, **facts)


def _animation(
    up: Upscaler, job: Job, writing: Writing, progress: Progress | None
) -> Done | Failed:
    try:
        return Done(job, **upscale_animation(up, job, writing, progress))
    except InputError as error:
        return Failed(job, error)


def upscale_bytes(
    up: Upscaler,
    data: bytes,
    source: str,
    target: str,
    writing: Writing = DEFAULTS,
    progress: Progress | None = None,
) -> tuple[bytes, Header]:
    """The file that `run_jobs` would write, from the file that it would read.

    Args:
        up: runs.
        data: an image file.
        source, target: names of input and output, for the errors and the format.
        writing: how the output is written.
        progress: see `Upscaler`.

    Returns:
        The new file, and what the old one's header says.

    Raises:
        InputError: the input is not usable, or the format cannot hold the result.
        BackendError: the backend failed.
    """
    reader = ImageReader(data, source)
    plan = _plan(up, reader.header, source, Path(target))
    image = _read(reader, plan)
    with named(source):
        stream = up.stream(image, plan, progress)
    metadata = writing.kept(reader.header.metadata)
    return encode_image(stream, Path(target), metadata, writing.quality), reader.header


@dataclass(frozen=True)
class _Loaded:
    """An image that was read, and how it is upscaled."""

    job: Job
    header: Header
    plan: ImagePlan
    image: Image | Rows


def _load(up: Upscaler, job: Job, number: int) -> _Loaded:
    """Read an image of a batch of `number`.

    Raises:
        InputError: it is not usable, it or its result is too large, or its output is there.
    """
    reader = ImageReader(job.source)
    check_writable(job.target, overwrite=job.overwrite)
    plan = _plan(up, reader.header, reader.name, job.target, number)
    image = _read(reader, plan) if number == 1 else reader.read()
    return _Loaded(job, reader.header, plan, image)


def _read(reader: ImageReader, plan: ImagePlan) -> Image | Rows:
    """Read an image whole if it is upscaled so, which is faster; else its rows, if that can be."""
    rows = None if plan.side is None else reader.rows()
    return rows or reader.read()


def _plan(up: Upscaler, header: Header, source: str, target: Path, number: int = 1) -> ImagePlan:
    """Decide by its header how an image is upscaled, as one of so many at once.

    Raises:
        InputError: the target or the memory cannot hold the result.
    """
    width, height = up.target.of(header.width, header.height)
    check_fits(target, width, height, header.channels, header.dtype)
    held_as = None if number == 1 and writes_bands(target) else header.dtype
    with named(source):
        return up.plan((header.height, header.width, header.channels), held_as, number)


def _upscale(
    up: Upscaler, loaded: Sequence[_Loaded], progress: Progress | None
) -> Iterator[tuple[_Loaded, Image | Banded | InputError]]:
    """A single image comes as its rows are done."""
    try:
        if len(loaded) == 1:
            yield loaded[0], up.stream(loaded[0].image, loaded[0].plan, progress)
        else:
            images = [one.image[:, :] for one in loaded]
            yield from zip(loaded, up.batch(images, progress), strict=True)
    except InputError as error:
        if len(loaded) == 1:
            yield loaded[0], InputError(f"{loaded[0].job.source}: {error}")
            return
        for one in loaded:  # to find the one that is bad
            yield from _upscale(up, [one], progress)


def _groups(up: Upscaler, jobs: Sequence[Job], batch: int) -> Iterator[list[Job]]:
    """Jobs of one size, at most `batch` of them and no more than run at once in the memory.

    Whatever cannot be read is alone.
    """
    if batch == 1:
        yield from ([job] for job in jobs)
        return
    by_size: dict[tuple[int, int], list[tuple[Job, Header]]] = {}
    for job in jobs:
        try:
            header = read_header(job.source)
        except InputError:
            yield [job]
            continue
        by_size.setdefault((header.width, header.height), []).append((job, header))
    for same in by_size.values():
        # One of each kind: the others need as much memory.
        kinds = {(header.channels, header.dtype): header for _, header in same}.values()
        most = min(batch, len(same))
        while most > 1 and not all(_runs_whole(up, header, most) for header in kinds):
            most //= 2
        yield from ([job for job, _ in same[i : i + most]] for i in range(0, len(same), most))


def _runs_whole(up: Upscaler, header: Header, number: int) -> bool:
    """Whether memory allows for so many images of this kind at once."""
    try:
        shape = header.height, header.width, header.channels
        return up.plan(shape, header.dtype, number).runs_whole
    except InputError:
        return False
