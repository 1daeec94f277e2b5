"""JSON values to frozen dataclasses, every field checked against its annotation."""

import types
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

# Numbers up to here are exact in JSON readers that know doubles alone.
_LARGEST = 2**53


def from_json(kind: type[T], value: object, where: str = "") -> T:
    """Build `kind` from what `json.loads` gave.

    Knows Any, dataclasses, `tuple[X, ...]`, `tuple[X, Y]`, `dict[str, X]`, unions, None, bool, str,
    and int and float up to 2⁵³ in size.

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
            return _convert(options[0], value, where)  # whose message says more
        for option in options:
            try:
                return _convert(option, value, where)
            except ValueError:
                continue
    elif origin is tuple and isinstance(value, list):
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


def _dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where.lstrip('.') or 'the document'} is {value!r:.40}")
    names = {field.name for field in fields(kind)}
    for name in sorted(names ^ set(value)):
        problem = "missing" if name in names else "unknown"
        raise ValueError(f"{f'{where}.{name}'.lstrip('.')} is {problem}")
    hints = get_type_hints(kind)
    return kind(**{name: _convert(hints[name], value[name], f"{where}.{name}") for name in names})
