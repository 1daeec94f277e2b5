"""Conversion of JSON to frozen dataclasses, with each field checked against its annotation."""

import json
import types
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.errors import HFDNError

T = TypeVar("T")

# Largest document in bytes. Shipped manifests have 140 kB, a benchmark of an hour a few MB.
_LARGEST_FILE = 64 * 2**20
# Integers up to this size are exact in JSON readers that have only doubles.
_LARGEST = 2**53


def read_json(
    path: Path,
    kind: type[T],
    schema: int,
    error: type[HFDNError],
    renew: str,
    check: Callable[[T], object] = lambda document: None,
) -> T:
    """Read a document that hfdn-deploy wrote.

    Args:
        path: a JSON file.
        kind: the dataclass to build.
        schema: the expected value of the document's field `schema`.
        error: the type of exception to raise.
        renew: advice for the user on how to recreate the document.
        check: raises ValueError if a well-formed document cannot be true.

    Raises:
        OSError: the file cannot be read.
        HFDNError: (of type `error`) the document is damaged, too large or has another schema.
    """
    check_regular(path, error)
    if (size := path.stat().st_size) > _LARGEST_FILE:
        raise error(
            f"{path} has {size:,} bytes, more than the limit of {_LARGEST_FILE:,}; {renew}."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is damaged ({reason}); {renew}.") from None
    found = values.get("schema") if isinstance(values, dict) else None
    if isinstance(found, int) and found != schema:
        advice = "upgrade hfdn-deploy" if found > schema else renew
        raise error(f"{path} has schema {found}, but this hfdn-deploy reads {schema}; {advice}.")
    try:
        document = from_json(kind, values)
        check(document)
    except (ValueError, RecursionError) as reason:
        raise error(f"{path} is damaged: {reason}; {renew}.") from None
    return document


def from_json(kind: type[T], value: object, where: str = "") -> T:
    """Build `kind` from a value that `json.loads` returned.

    Supported are Any, dataclasses, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, unions, None,
    bool, str, and int and float up to 2⁵³ in size.

    Raises:
        ValueError: a field is missing, unknown or of another type; the message says where.
    """
    return _convert(kind, value, where)  # type: ignore[no-any-return]


def _convert(kind: Any, value: object, where: str) -> Any:
    if kind is Any:
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin in (Union, types.UnionType):
        options = [option for option in arguments if option is not type(None) or value is None]
        if len(options) == 1:
            return _convert(options[0], value, where)  # for its better message
        for option in options:
            try:
                return _convert(option, value, where)
            except ValueError:
                continue
    elif origin is tuple and isinstance(value, list):
        if arguments == (float, ...) and all(map(_is_number, value)):
            return tuple(map(float, value))  # thousands of channels are slow one by one
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else list(arguments)
        if len(kinds) == len(value):
            pairs = enumerate(zip(kinds, value, strict=True))
            return tuple(_convert(k, v, f"{where}[{i}]") for i, (k, v) in pairs)
    elif origin is dict and isinstance(value, dict):
        return {k: _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    elif isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:
        pass  # NaN too
    elif kind is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]
    elif kind in (bool, int, str, type(None)) and type(value) is kind:
        return value
    raise ValueError(f"{where.lstrip('.') or 'the document'} is {value!r:.40}")


def _is_number(value: object) -> bool:
    return type(value) in (float, int) and -_LARGEST <= value <= _LARGEST  # type: ignore[operator]


def _dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where.lstrip('.') or 'the document'} is {value!r:.40}")
    names = {field.name for field in fields(kind)}
    for name in sorted(names ^ set(value)):
        problem = "missing" if name in names else "unknown"
        raise ValueError(f"{f'{where}.{name}'.lstrip('.')} is {problem}")
    hints = _hints(kind)
    return kind(**{name: _convert(hints[name], value[name], f"{where}.{name}") for name in names})


# A manifest has hundreds of records of a few kinds, and evaluating annotations is slow.
_hints = cache(get_type_hints)
