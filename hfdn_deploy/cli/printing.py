"""Printing for people and for programs."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hfdn_deploy.errors import HFDNError, InputError

# Control characters, line separators, and characters that change the writing direction.
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: object, keep: str = "") -> str:
    """Escape characters that would control a terminal or begin another line.

    Args:
        text: may contain untrusted text, such as the name of a file.
        keep: characters that are not escaped.
    """
    return _HIDDEN.sub(
        lambda found: found[0] if found[0] in keep else repr(found[0])[1:-1], str(text)
    )


@contextmanager
def json_report(wanted: bool) -> Iterator[dict[str, Any]]:
    """Yield a dictionary; if wanted, print it as JSON at the end, with any error that occurred."""
    report: dict[str, Any] = {}
    try:
        yield report
    except (HFDNError, OSError) as error:
        code = error.exit_code if isinstance(error, HFDNError) else InputError.exit_code
        report |= {"error": str(error), "exit_code": code}
        raise
    finally:
        if wanted and report:
            print(json.dumps(report, indent=1))


def print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Print facts as lines of text, without long lists."""
    for name, value in facts.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, dict):
            print(printable(label))
            print_facts(value, indent + "  ")
        elif isinstance(value, list | tuple) and any(isinstance(v, dict) for v in value):
            print(printable(f"{label} {len(value)} (see --json)"))
        elif isinstance(value, list | tuple):
            print(printable(f"{label} {', '.join(map(str, value)) or 'none'}"))
        else:
            print(printable(f"{label} {'-' if value is None else value}"))
