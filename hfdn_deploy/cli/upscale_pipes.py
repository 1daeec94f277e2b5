"""The command `hfdn upscale` for one image from stdin or to stdout."""

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hfdn_deploy.atomic import check_regular, check_writable, replaced
from hfdn_deploy.cli.options import model_options
from hfdn_deploy.cli.progress import run_progress
from hfdn_deploy.cli.upscale_options import (
    image_facts,
    is_quiet,
    model_facts,
    naming_options,
    tell,
    warn_of_ignored,
    writing_options,
)
from hfdn_deploy.errors import InputError
from hfdn_deploy.files import Done, Job, check_file, find_sources, output_suffix, upscale_bytes
from hfdn_deploy.images import SIGNATURE_BYTES, check_format, decode_header, format_of
from hfdn_deploy.machine import free_memory
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video import is_video

logger = logging.getLogger(__name__)

PIPE = "-"
_CHUNK = 2**20
# A file may take 1 / _SHARE of the free memory: it is copied once, and its image must fit, too.
_SHARE = 4


def run_through_pipes(args: argparse.Namespace) -> None:
    """Upscale an image where the input or the output is "-"; errors as for `hfdn upscale`."""
    _check(args)
    with _stdout() as descriptor:
        data, source = _read(args)
        target = _target(args, source, data)
        job = Job(source, target, overwrite=args.force)
        warn_of_ignored(args, [job])
        before = decode_header(data, str(source))
        pixels = before.width * before.height
        with (
            Upscaler.open(model_options(args)) as up,
            run_progress([job], is_quiet(args), lambda _: pixels) as bars,
        ):
            show = bars.show if bars else None
            result, _ = upscale_bytes(
                up, data, str(source), str(target), writing_options(args),
                lambda done, total: show(job, done, total) if show else None,
            )  # fmt: skip
            header = decode_header(result, str(target))
            done = Done(job, header.width, header.height, 0.0)
            facts = model_facts(up)
        if args.output == PIPE:
            _write(descriptor, result)
            return
        with replaced(target, overwrite=args.force) as temporary:
            temporary.write_bytes(result)
    args.report |= {**facts, "skipped": 0, "images": [image_facts(done)], "failures": []}
    tell(args, [str(target)])


def _check(args: argparse.Namespace) -> None:
    """Refuse unusable options before stdin is read.

    Raises:
        InputError: an option or a second input does not fit a pipe, stdin or stdout is a terminal,
            stdout is closed, or the output is not usable or exists.
    """
    if args.resume or args.suffix:
        option = "--resume" if args.resume else "--suffix"
        raise InputError(
            f"{option} is for files in folders, not for stdin and stdout; leave it out."
        )
    if PIPE in args.inputs:
        if len(args.inputs) > 1:
            raise InputError("- (stdin) is one image; give no other inputs.")
        if sys.stdin.isatty():
            raise InputError("stdin is a terminal; pipe an image in, or name a file.")
    if args.output == PIPE:
        if args.json:
            raise InputError("--json and the image would both go to stdout; leave one of them out.")
        if sys.__stdout__ is None:  # `sys.stdout` is the null device then
            raise InputError("stdout is closed; redirect it, or name a file with -o.")
        if sys.stdout.isatty():
            raise InputError("stdout is a terminal; redirect it, or name a file with -o.")
        return
    target = Path(args.output)
    if target.is_dir() or args.output.endswith(("/", os.sep)):
        raise InputError(
            f"{args.output} is a folder, and stdin has no file name to keep; name a file."
        )
    check_file(args.output, naming_options(args))
    check_format(target)
    check_writable(target, overwrite=args.force)


@contextmanager
def _stdout() -> Iterator[int]:
    """Yield a descriptor of stdout; other output to stdout in the block goes to stderr."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    try:
        os.dup2(2, 1)
        yield descriptor
    finally:
        sys.stdout.flush()
        os.dup2(descriptor, 1)
        os.close(descriptor)


def _read(args: argparse.Namespace) -> tuple[bytes, Path]:
    if args.inputs == [PIPE]:
        return _read_whole(sys.stdin.buffer, "stdin"), Path("stdin")
    sources, unusable = find_sources(args.inputs)
    if unusable:
        raise unusable[0].error
    if len(sources) != 1:
        raise InputError(f"stdout takes one image, not {len(sources)}; name a folder.")
    path = sources[0].path
    if is_video(path):
        raise InputError(f"{path} is a video, and stdout takes only an image; name a file.")
    check_regular(path, InputError)
    try:
        with path.open("rb") as file:
            return _read_whole(file, str(path)), path
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _read_whole(file: BinaryIO, name: str) -> bytes:
    """Return the bytes of a file, or only the first if they are not an image.

    Raises:
        InputError: the file is too large for the free memory.
    """
    most = free_memory() // _SHARE
    data = bytearray()
    while chunk := file.read(_CHUNK):
        data += chunk
        if len(data) > most:
            raise InputError(
                f"{name} has more than {most >> 20} MiB, too much for the free memory; save it as "
                "a file and name the file."
            )
        if len(data) >= SIGNATURE_BYTES and format_of(bytes(data[:SIGNATURE_BYTES])) is None:
            break
    return bytes(data)


def _target(args: argparse.Namespace, source: Path, data: bytes) -> Path:
    """Return a path whose suffix chooses the format of the output."""
    if args.output != PIPE:
        return Path(args.output)
    suffix = output_suffix(source, naming_options(args), data[:SIGNATURE_BYTES])
    if not args.format and source.suffix and suffix != source.suffix:
        logger.warning(
            "%s: %s cannot be written; the format on stdout is %s", source, source.suffix, suffix
        )
    return Path(f"stdout{suffix}")


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(descriptor, left) :]
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"stdout cannot be written: {error.strerror}; redirect it.") from None
