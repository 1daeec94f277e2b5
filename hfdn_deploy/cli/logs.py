"""Log messages on stderr: one line of text each, or JSON."""

import logging
from typing import Any

from hfdn_deploy.cli.printing import printable
from hfdn_deploy.errors import InputError

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")

# These repeat their messages for every model that is opened and every plan that is made.
_OF_MODELS = (
    "hfdn_deploy.upscaler.network",
    "hfdn_deploy.upscaler.planning",
    "hfdn_deploy.bundle.bundle",
    "hfdn_deploy.tiling.planning",
    "hfdn_deploy.backends.openvino",
)
# Names for the arguments of uvicorn's records of requests.
_REQUEST = ("client", "method", "path", "http_version", "status")


def set_up_logging(level: str = "info", kind: str = "text") -> None:
    """Show log messages on stderr, unless the program handles them already.

    Args:
        level: one of `LEVELS`, for our own messages; libraries log from "info" up.
        kind: one of `FORMATS`.

    Raises:
        InputError: kind is "json", and python-json-logger is not installed.
    """
    own = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler()
    handler.addFilter(_Once())
    handler.setFormatter(_Lines("%(message)s") if kind == "text" else _json_lines())
    if not logging.root.handlers:
        logging.basicConfig(level=max(own, logging.INFO), handlers=[handler])
        logging.getLogger("hfdn_deploy").setLevel(own)


class _Once(logging.Filter):
    """Filter that lets each message about a model or a plan pass once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        again = record.name in _OF_MODELS and message in self._said
        self._said.update([message] if record.name in _OF_MODELS else [])
        return not again


class _Lines(logging.Formatter):
    """Formatter that keeps each message on one line; a traceback follows unchanged."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))


def _json_lines() -> logging.Formatter:
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ModuleNotFoundError:
        raise InputError(
            "JSON logs need python-json-logger", "pip install 'hfdn-deploy[serve]'"
        ) from None

    class JSONLines(JsonFormatter):
        """Formatter that gives requests fields for client, method, path and status."""

        def add_fields(
            self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
        ) -> None:
            super().add_fields(log_data, record, message_dict)
            if record.name == "uvicorn.access" and isinstance(record.args, tuple):
                log_data |= dict(zip(_REQUEST, record.args, strict=False))

    names = {"asctime": "time", "levelname": "level", "name": "logger"}
    return JSONLines(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        rename_fields=names,
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
