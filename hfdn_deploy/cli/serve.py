"""The command `hfdn serve`."""

import argparse
import ipaddress
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hfdn_deploy.cli.logs import FORMATS, LEVELS
from hfdn_deploy.cli.options import (
    PRECISIONS,
    add_run_arguments,
    positive,
    positive_number,
    run_options,
)
from hfdn_deploy.errors import InputError
from hfdn_deploy.service import TOKEN, read_token

if TYPE_CHECKING:
    from hfdn_deploy.options import ModelOptions

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.epilog = f"If ${TOKEN} is set, clients must send it as a bearer token."
    parser.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 for all interfaces (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="0 for a free port (default: 8000)"
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument(
        "--scale", type=int, nargs="+", default=[4, 2, 3],
        help="scales of pretrained bundles, the default for requests first (default: 4 2 3)",
    )  # fmt: skip
    model.add_argument("--model", type=Path, help="bundle, engine or checkpoint")
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS,
        help="default for requests first; auto: the fastest here (default: fp32 int8; with --model "
        "its own, or fp32)",
    )  # fmt: skip
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--batch", type=int, help="most images in a batch (default: 8)")
    parser.add_argument("--queue", type=positive, help="most images in progress (default: 32)")
    parser.add_argument("--max-bytes", type=positive, help="limit of a body (default: 16 MiB)")
    parser.add_argument("--max-pixels", type=positive, help="limit of an input (default: 4 Mi)")
    parser.add_argument(
        "--max-output-pixels", type=positive, help="limit of a result (default: 64 Mi)"
    )
    parser.add_argument(
        "--upload-timeout", type=positive_number, help="seconds to receive a body (default: 15)"
    )
    parser.add_argument(
        "--timeout", type=positive_number, help="seconds to answer a request (default: 60)"
    )
    parser.add_argument(
        "--log-level", choices=LEVELS, default="info", help="lowest level shown (default: info)"
    )
    parser.add_argument(
        "--log-format", choices=FORMATS, default="text",
        help="json: one object per line, with extra fields for requests (default: text)",
    )  # fmt: skip
    parser.add_argument(
        "--shutdown-timeout", type=positive_number,
        help="seconds from a signal to exit (default: 10)",
    )  # fmt: skip
    add_run_arguments(parser)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> None:
    """Serve until SIGINT or SIGTERM.

    Raises:
        InputError: the extra `serve` is not installed.
    """
    try:
        from hfdn_deploy.service import Limits, ModelSettings, Settings, serve
    except ModuleNotFoundError as error:
        raise InputError(
            f"the service needs {error.name}: pip install 'hfdn-deploy[serve]'"
        ) from None
    asked = {
        "queue": args.queue,
        "body_bytes": args.max_bytes,
        "pixels": args.max_pixels,
        "output_pixels": args.max_output_pixels,
        "upload_seconds": args.upload_timeout,
        "answer_seconds": args.timeout,
        "shutdown_seconds": args.shutdown_timeout,
    }
    settings = Settings(
        ModelSettings(_models(args), args.batch),
        Limits(**{name: value for name, value in asked.items() if value is not None}),
        _token(args.host),
    )
    serve(settings, args.host, args.port)


def _models(args: argparse.Namespace) -> "tuple[ModelOptions, ...]":
    """Return every model in every precision, the default for requests first."""
    options = replace(run_options(args), backend=args.backend)
    precisions = args.precision or ([None] if args.model else ["fp32", "int8"])
    models = [args.model] if args.model else args.scale
    return tuple(replace(options, model=m, precision=p) for p in precisions for m in models)


def _token(host: str) -> str | None:
    token = read_token()
    if token is None and not _is_loopback(host):
        logger.warning("anyone who can reach %s can use this service; set $%s.", host, TOKEN)
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
