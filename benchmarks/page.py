"""Put the tables that another command prints, on standard input, in place of a page's."""

import argparse
import re
import sys
from itertools import chain, groupby
from pathlib import Path

from benchmarks.record import WEIGHTS
from hfdn_deploy.atomic import replaced
from hfdn_deploy.cli import printable
from hfdn_deploy.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks page`."""
    parser.add_argument("page", type=Path, help="Markdown file with tables of the same head")


def main(args: argparse.Namespace) -> None:
    """Write the page anew.

    Raises:
        InputError: the page cannot be read, or has no place for a table.
    """
    try:
        page = args.page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{args.page} cannot be read: {error}; name a Markdown file.") from error
    text = updated(page, sys.stdin.read())
    with replaced(args.page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(printable(args.page))


def updated(page: str, printed: str) -> str:
    """Return a Markdown page with the rows of the printed tables that have the same head.

    Printed rows replace the rows of the page with the same first cell; other rows stay. Where the
    page names weights, those of the printed scales are replaced.

    Raises:
        InputError: nothing is printed, or the page has no place for it.
    """
    given = {lines[0]: lines[2:] for lines in _blocks(printed) if _is_table(lines[0])}
    if not given:
        raise InputError("there is no table on standard input; pipe a command's output to it.")
    lines = []
    for block in _blocks(page):
        if rows := given.pop(block[0], None):
            block[2:] = _merged(block[2:], rows)
        lines += block
    if given:
        raise InputError(f"the page has no table with the head {next(iter(given))!r}.")
    text = "\n".join(lines) + "\n"
    for scale, digest in re.findall(r"(×\d) (\w+)", _weights(printed)):
        old = _weights(text)
        if scale not in old:
            raise InputError(f"the page does not name the weights of {scale}.")
        text = text.replace(old, re.sub(rf"{scale} \w+", f"{scale} {digest}", old))
    return text


def _blocks(text: str) -> list[list[str]]:
    """Split a text into its tables and what is between them, as lists of lines."""
    return [list(lines) for _, lines in groupby(text.splitlines(), _is_table)]


def _is_table(line: str) -> bool:
    return line.startswith("|")


def _merged(old: list[str], new: list[str]) -> list[str]:
    groups: dict[str, list[str]] = {}
    for rows in (old, new):
        groups |= {cell: list(same) for cell, same in groupby(rows, lambda row: row.split("|")[1])}
    return list(chain.from_iterable(groups.values()))


def _weights(text: str) -> str:
    """Return the line that names weights; empty without one."""
    return next((line for line in text.splitlines() if line.startswith(WEIGHTS)), "")
