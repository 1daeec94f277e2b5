import argparse

import pytest

from hfdn_deploy.cli import positive_number
from hfdn_deploy.cli.options import _memory
from tests.helpers.commands import misused


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("200M", 200 * 2**20),
        ("200MiB", 200 * 2**20),
        ("200MB", 200 * 10**6),
        ("1.5g", 3 * 2**29),
        ("64 KiB", 2**16),
        ("64k", 2**16),
        ("2kb", 2000),
        ("1T", 2**40),
    ],
)
def test_sizes_of_memory(text, size):
    assert _memory(text) == size


@pytest.mark.parametrize("text", ["200", "M", "1.5.5G", "0M", "-1G", "1iB", "1 MiBs", "nanG"])
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match=r"not a size such|less than a byte"):
        _memory(text)


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "x"])
def test_what_is_no_number_above_0(text):
    assert positive_number("1e-4") == 1e-4
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0"):
        positive_number(text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("serve --port 99999", "'99999' is not a port from 0 to 65535"),
        ("serve --timeout nan", "'nan' is not a number above 0"),
        ("serve --queue 0", "'0' is not a whole number above 0"),
        ("serve --log-level loud", "invalid choice: 'loud'"),
        ("cache drop", "invalid choice: 'drop'"),
    ],
)
def test_refusals_before_anything_is_opened(arguments, words, capsys):
    assert words in misused(capsys, arguments.split())
