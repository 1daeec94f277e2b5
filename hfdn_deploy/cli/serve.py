"""`hfdn serve`."""

import argparse
import ipaddress
import logging
from pathlib import Path
from typing import Any

from hfdn_deploy.bundle import PRECISIONS
from hfdn_deploy.errors import InputError
from hfdn_deploy.service import TOKEN, read_token

logger = logging.getLogger(__name__)


def add_commands(commands: Any) -> None:
    """Add it to the subcommands of `hfdn`."""
    serve = commands.add_parser(
        "serve",
        help="upscale over HTTP, with a page for people",
        epilog=f"A bearer token that clients must show is taken from ${TOKEN}.",
    )
    serve.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for all (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8000, help="0 for a free one (default: 8000)")
    model = serve.add_mutually_exclusive_group()
    model.add_argument(
        "--scale", type=int, nargs="+", default=[4, 2, 3],
        help="of pretrained bundles, the default of requests first (default: 4 2 3)",
    )  # fmt: skip
    model.add_argument("--model", type=Path, help="bundle, engine or checkpoint")
    serve.add_argument(
        "--precision", nargs="+", choices=PRECISIONS,
        help="as --scale (default: fp32 int8; of --model its own, or fp32)",
    )  # fmt: skip
    serve.add_argument("--backend", default="auto")
    serve.add_argument("--batch", type=int, help="most pictures at once (default: 8)")
    serve.add_argument("--queue", type=int, help="most pictures being served (default: 32)")
    serve.add_argument("--max-bytes", type=int, help="of a body (default: 16 MiB)")
    serve.add_argument("--max-pixels", type=int, help="of a picture sent (default: 4 Mi)")
    serve.add_argument("--max-output-pixels", type=int, help="of an answer (default: 64 Mi)")
    serve.add_argument("--upload-timeout", type=float, help="seconds for a body (default: 15)")
    serve.add_argument("--timeout", type=float, help="seconds for an answer (default: 60)")
    serve.add_argument(
        "--allow-ungated", action="store_true", help="run a graph that failed its quality gate"
    )
    serve.add_argument(
        "--trust", action="store_true", help="run an engine that you did not build yourself"
    )
    serve.set_defaults(command=_serve)


def _serve(args: argparse.Namespace) -> None:
    try:
        from hfdn_deploy.service import Limits, ModelSettings, Service, Settings, serve
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
    }
    settings = Settings(
        ModelSettings(
            tuple(args.scale),
            args.model,
            tuple(args.precision or (() if args.model else ("fp32", "int8"))),
            args.backend,
            args.batch,
            args.allow_ungated,
            args.trust,
        ),
        Limits(**{name: value for name, value in asked.items() if value is not None}),
        _token(args.host),
    )
    with Service(settings) as service:
        serve(service, args.host, args.port)


def _token(host: str) -> str | None:
    token = read_token()
    if token is None and not _is_loopback(host):
        logger.warning("anybody who reaches %s may use this service: set $%s.", host, TOKEN)
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
