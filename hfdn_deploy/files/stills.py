"""Upscaling images: small images of one size in threads, others one by one or in batches."""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from hfdn_deploy.atomic import check_writable, replaced
from hfdn_deploy.errors import InputError, named
from hfdn_deploy.files.outcomes import Done, Failed, FileProgress, progress_of
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
from hfdn_deploy.interruption import deferred
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import ImagePlan, Upscaler, mapped


def run_stills(
    up: Upscaler, jobs: Sequence[Job], writing: Writing, batch: int, progress: FileProgress | None
) -> Iterator[Done | Failed]:
    """Upscale still images as `run_jobs` does."""
    for same, kinds in _by_size(jobs):
        threads = _threads(up, kinds, len(same)) if batch == 1 else 1
        if threads > 1:
            yield from _run_beside(up, same, threads, writing)
            continue
        most = _most(up, kinds, min(batch, len(same)))
        for start in range(0, len(same), most):
            yield from _run_together(up, same[start : start + most], writing, progress)


def _run_together(
    up: Upscaler, group: Sequence[Job], writing: Writing, progress: FileProgress | None
) -> Iterator[Done | Failed]:
    """Upscale images of one size at once."""
    start = time.perf_counter()
    loaded: list[_Loaded] = []
    for job in group:
        try:
            loaded.append(_load(up, job, len(group)))
        except InputError as error:
            yield Failed(job, error)
    for one, image in _upscale(up, loaded, progress_of(group[0], progress)):
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


def _run_beside(
    up: Upscaler, jobs: Sequence[Job], threads: int, writing: Writing
) -> Iterator[Done | Failed]:
    """Read, upscale and encode images in threads, and write them one after the other.

    This way every written file is reported, also after an error, SIGINT, SIGTERM or SIGHUP.
    """
    with mapped(partial(_encoded, up, writing), jobs, threads) as results:
        for result in results:
            if isinstance(result, Failed):
                yield result
                continue
            with deferred():  # a signal waits until the written file has been reported
                yield _written(*result)


def _written(done: Done, data: bytes) -> Done | Failed:
    start = time.perf_counter()
    try:
        with replaced(done.job.target, overwrite=done.job.overwrite) as temporary:
            temporary.write_bytes(data)
    except InputError as error:
        return Failed(done.job, error)
    return replace(done, seconds=done.seconds + time.perf_counter() - start)


def _encoded(up: Upscaler, writing: Writing, job: Job) -> tuple[Done, bytes] | Failed:
    """Return the outcome and the bytes that `_run_beside` writes."""
    start = time.perf_counter()
    try:
        check_writable(job.target, overwrite=job.overwrite)
        data, plan, _ = _encode(up, ImageReader(job.source), job.target, writing)
    except InputError as error:
        return Failed(job, error)
    height, width = plan.size
    return Done(job, width, height, time.perf_counter() - start, tile=plan.side), data


def _encode(
    up: Upscaler,
    reader: ImageReader,
    target: Path,
    writing: Writing,
    progress: Progress | None = None,
) -> tuple[bytes, ImagePlan, Header]:
    plan = _plan(up, reader.header, reader.name, target)
    image = _read(reader, plan)
    with named(reader.name):
        stream = up.stream(image, plan, progress)
    metadata = writing.kept(reader.header.metadata)
    return encode_image(stream, target, metadata, writing.quality), plan, reader.header


def _write(one: "_Loaded", image: Image | Banded, writing: Writing) -> None:
    metadata = writing.kept(one.header.metadata)
    write_image(one.job.target, image, metadata, writing.quality, overwrite=one.job.overwrite)


def upscale_bytes(
    up: Upscaler,
    data: bytes,
    source: str,
    target: str,
    writing: Writing = DEFAULTS,
    progress: Progress | None = None,
) -> tuple[bytes, Header]:
    """Upscale an image file in memory, as `run_jobs` does on disk.

    Args:
        up: the upscaler.
        data: an image file.
        source, target: names of input and output, for error messages and the format.
        writing: how the output is written.
        progress: see `Upscaler`.

    Returns:
        The output file, and the header of the input.

    Raises:
        InputError: the input is not usable, or the output's format cannot hold the result.
        BackendError: the backend failed.
    """
    data, _, header = _encode(up, ImageReader(data, source), Path(target), writing, progress)
    return data, header


@dataclass(frozen=True)
class _Loaded:
    """An image that was read, and its plan."""

    job: Job
    header: Header
    plan: ImagePlan
    image: Image | Rows


def _load(up: Upscaler, job: Job, number: int) -> _Loaded:
    """Read an image of a batch of `number`.

    Raises:
        InputError: the image is not usable, it or its result is too large, or its output exists.
    """
    reader = ImageReader(job.source)
    check_writable(job.target, overwrite=job.overwrite)
    plan = _plan(up, reader.header, reader.name, job.target, number)
    image = _read(reader, plan) if number == 1 else reader.read()
    return _Loaded(job, reader.header, plan, image)


def _read(reader: ImageReader, plan: ImagePlan) -> Image | Rows:
    """Read an image whole if it is upscaled whole, which is faster; else by rows if possible."""
    rows = None if plan.side is None else reader.rows()
    return rows or reader.read()


def _plan(up: Upscaler, header: Header, source: str, target: Path, number: int = 1) -> ImagePlan:
    """Plan by its header how an image is upscaled, as one of `number` images at once.

    Raises:
        InputError: the output's format or the memory cannot hold the result.
    """
    width, height = up.target.of(header.width, header.height)
    check_fits(target, width, height, header.channels, header.dtype)
    held_as = None if number == 1 and writes_bands(target) else header.dtype
    with named(source):
        return up.plan((header.height, header.width, header.channels), held_as, number)


def _upscale(
    up: Upscaler, loaded: Sequence[_Loaded], progress: Progress | None
) -> Iterator[tuple[_Loaded, Image | Banded | InputError]]:
    """Yield the result, or error, of each image; a single image in bands as they are done."""
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
        for one in loaded:  # to find the bad image
            yield from _upscale(up, [one], progress)


Kind = tuple[tuple[int, int, int], str]
"""Shape (H, W, C) and dtype of an image."""


def _by_size(jobs: Sequence[Job]) -> Iterator[tuple[list[Job], set[Kind]]]:
    """Yield jobs of one size with the kinds of their images; an unreadable image comes alone."""
    by_size: dict[tuple[int, int] | Job, tuple[list[Job], set[Kind]]] = {}
    for job in jobs:
        key: tuple[int, int] | Job = job
        kinds = set()
        with suppress(InputError):
            header = read_header(job.source)
            key = header.width, header.height
            kinds = {((header.height, header.width, header.channels), header.dtype)}
        same, others = by_size.setdefault(key, ([], set()))
        same.append(job)
        others |= kinds
    yield from by_size.values()


def _threads(up: Upscaler, kinds: set[Kind], number: int) -> int:
    """Return how many threads should upscale images of one size, and prepare the backend."""
    if number == 1:
        return 1
    # Plan for the kind that needs the most memory.
    shape, dtype = max(kinds, key=lambda kind: (kind[0][2] * np.dtype(kind[1]).itemsize, kind))
    try:
        return up.plan_many(shape, dtype, number)[1]
    except InputError:  # each image raises it again
        return 1


def _most(up: Upscaler, kinds: set[Kind], number: int) -> int:
    """Return how many images of one size, at most `number`, fit into memory at once."""
    while number > 1 and not all(_runs_whole(up, *kind, number) for kind in kinds):
        number //= 2
    return number


def _runs_whole(up: Upscaler, shape: tuple[int, ...], dtype: str, number: int) -> bool:
    try:
        return up.plan(shape, dtype, number).runs_whole
    except InputError:
        return False
