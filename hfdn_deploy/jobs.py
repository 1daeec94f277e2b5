"""Which files are upscaled to which, and doing it one file after the other."""

import glob
import time
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hfdn_deploy.decoding import Header
from hfdn_deploy.encoding import Banded
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import (
    Image,
    check_fits,
    check_format,
    find_images,
    read_header,
    read_image,
    write_image,
    writes_bands,
)
from hfdn_deploy.upscaler import Progress, Upscaler
from hfdn_deploy.video import check_video_format, is_video, upscale_video


@dataclass(frozen=True)
class Job:
    """One image or video to upscale."""

    source: Path
    target: Path


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


def plan_jobs(inputs: Sequence[str], output: Path) -> list[Job]:
    """Pairs of input and output file.

    Args:
        inputs: files, folders (the images directly in them) and globs.
        output: an existing folder; else a file if it has a suffix, or a folder to make.

    Raises:
        InputError: nothing to do, an output of no known format, several inputs for one output
            (on a file system that ignores case, too), or an output that is one of the inputs.
    """
    sources: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            sources += find_images(path)
        elif not path.exists() and glob.has_magic(name):
            sources += sorted(map(Path, glob.glob(name, recursive=True)))  # noqa: PTH207
        else:
            sources.append(path)
    if not sources:
        raise InputError(f"no image in {', '.join(inputs)}; name files, folders or globs.")
    into_file = bool(output.suffix) and not output.is_dir()
    if into_file and len(sources) > 1:
        raise InputError(f"{output} is one file for {len(sources)} images; name a folder.")
    jobs = [Job(source, output if into_file else output / source.name) for source in sources]
    read = {_identity(source) for source in sources if source.exists()}
    taken: dict[str, Job] = {}
    for job in jobs:
        (check_video_format if is_video(job.source) else check_format)(job.target)
        # Names that differ in case or accents' encoding alone are one file on some systems.
        name = unicodedata.normalize("NFC", str(job.target)).casefold()
        if name in taken:
            both = f"{taken[name].source} and {job.source}"
            raise InputError(f"{both} would both become {job.target}; name other folders.")
        if job.target.exists() and _identity(job.target) in read:
            raise InputError(f"{job.source} would overwrite an input; name another output.")
        taken[name] = job
    return jobs


def pending_jobs(jobs: Sequence[Job], force: bool, resume: bool) -> list[Job]:
    """Those still to be done, before anything is written.

    Args:
        jobs: from `plan_jobs`.
        force: outputs that exist may be overwritten.
        resume: leave out jobs whose output exists and is no older than its input.

    Raises:
        InputError: an output exists and may not be overwritten.
    """
    if resume:
        jobs = [job for job in jobs if not _is_done(job)]
    existing = [job.target for job in jobs if job.target.exists()]
    if existing and not force:
        others = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        kind = "older than its input" if resume else "there already"
        advice = "" if resume else ", --resume skips what is done"
        raise InputError(f"{existing[0]}{others}: {kind}; --force overwrites{advice}.")
    return list(jobs)


def run_jobs(
    up: Upscaler,
    jobs: Sequence[Job],
    keep_metadata: bool = True,
    quality: int | None = None,
    batch: int = 1,
    progress: Progress | None = None,
) -> Iterator[Done | Failed]:
    """Upscale files; a bad one does not stop the others.

    Args:
        up: runs.
        jobs: what to do, in this order, but for images of one size if there are batches.
        keep_metadata: carry ICC profile, EXIF and the like over.
        quality: of JPEG, WebP and AVIF, see `write_image`.
        batch: the most images of one size that run at once.
        progress: see `Upscaler`.

    Raises:
        BackendError: the engine failed.
    """
    for job in jobs:
        if is_video(job.source):
            yield _video(up, job)
    for group in _groups([job for job in jobs if not is_video(job.source)], batch):
        start = time.perf_counter()
        loaded: list[_Loaded] = []
        for job in group:
            try:
                loaded.append(_load(up, job, len(group)))
            except InputError as error:
                yield Failed(job, error)
        for one, image in _upscale(up, loaded, progress):
            if isinstance(image, InputError):
                yield Failed(one.job, image)
                continue
            metadata = one.header.metadata if keep_metadata else None
            try:
                write_image(one.job.target, image, metadata, quality)
            except InputError as error:
                yield Failed(one.job, error)
                continue
            seconds = (time.perf_counter() - start) / len(group)
            yield Done(one.job, image.shape[1], image.shape[0], seconds, tile=one.tile)


def _video(up: Upscaler, job: Job) -> Done | Failed:
    try:
        facts = upscale_video(up, job.source, job.target)
    except InputError as error:
        return Failed(job, error)
    return Done(job, facts["width"], facts["height"], facts["seconds"], facts["frames"])


@dataclass(frozen=True)
class _Loaded:
    """An image that was read."""

    job: Job
    header: Header
    held: int
    tile: int | None
    """See `Upscaler.tile_for`."""
    image: Image


def _load(up: Upscaler, job: Job, number: int) -> _Loaded:
    """An image of a batch of `number`; all that can be refused by its header is."""
    header = read_header(job.source)
    width, height = up.scale * header.width, up.scale * header.height
    check_fits(job.target, width, height, header.channels, header.dtype)
    size = width * height * header.channels * np.dtype(header.dtype).itemsize
    held = 0 if number == 1 and writes_bands(job.target) else number * size
    try:
        tile = up.tile_for((header.height, header.width, header.channels), held, number)
    except InputError as error:
        raise InputError(f"{job.source}: {error}") from None
    return _Loaded(job, header, held, tile, read_image(job.source))


def _upscale(
    up: Upscaler, loaded: Sequence[_Loaded], progress: Progress | None
) -> Iterator[tuple[_Loaded, Image | Banded | InputError]]:
    """A single image comes as its rows are done."""
    try:
        if len(loaded) == 1:
            yield loaded[0], up.stream(loaded[0].image, progress, loaded[0].held)
        else:
            yield from zip(loaded, up.batch([one.image for one in loaded], progress), strict=True)
    except InputError as error:
        if len(loaded) == 1:
            yield loaded[0], InputError(f"{loaded[0].job.source}: {error}")
            return
        for one in loaded:  # to find the one that is bad
            yield from _upscale(up, [one], progress)


def _groups(jobs: Sequence[Job], batch: int) -> Iterator[list[Job]]:
    """Jobs of one size, at most `batch` of them; whatever cannot be read is alone."""
    if batch == 1:
        yield from ([job] for job in jobs)
        return
    by_size: dict[tuple[int, int], list[Job]] = {}
    for job in jobs:
        try:
            header = read_header(job.source)
        except InputError:
            yield [job]
            continue
        by_size.setdefault((header.width, header.height), []).append(job)
    for same in by_size.values():
        yield from (same[i : i + batch] for i in range(0, len(same), batch))


def _is_done(job: Job) -> bool:
    """Whether the output is there, which is never half of one, and no older than the input."""
    try:
        return job.target.stat().st_mtime_ns >= job.source.stat().st_mtime_ns
    except OSError:
        return False


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino
