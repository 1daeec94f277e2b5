"""`python -m benchmarks page`: tables of other commands in the pages of the documentation."""

import io

import pytest

from benchmarks.cli import main
from benchmarks.record import WEIGHTS

PAGE = f"""# Title

| scale | PSNR |
|---|---|
| ×2 | 1 |
| ×3 | 2 |
| ×3 | 3 |
| ×4 | 4 |

Between.

| other | PSNR |
|---|---|
| ×3 | 5 |

{WEIGHTS}×2 aaaa, ×3 bbbb, ×4 cccc

The end.
"""
PRINTED = f"""| scale | PSNR |
|---|---|
| ×3 | 7 |
| ×8 | 8 |

{WEIGHTS}×3 dddd
"""


@pytest.fixture
def replace(tmp_path, monkeypatch):
    """Run the command on a page that holds `text`; return its exit code and the page."""

    def run(printed, text=PAGE):
        path = tmp_path / "page.md"
        path.write_text(text)
        monkeypatch.setattr("sys.stdin", io.StringIO(printed))
        return main(["page", str(path)]), path.read_text()

    return run


def test_only_the_printed_rows_and_weights_change(replace):
    code, page = replace(PRINTED)
    assert code == 0
    old, new = "| ×3 | 2 |\n| ×3 | 3 |\n| ×4 | 4 |", "| ×3 | 7 |\n| ×4 | 4 |\n| ×8 | 8 |"
    assert page == PAGE.replace(old, new).replace("×3 bbbb", "×3 dddd")
    assert replace(PRINTED, page) == (0, page)


@pytest.mark.parametrize(
    ("printed", "text", "reason"),
    [
        ("error: no table\n", PAGE, "there is no table on standard input"),
        (PRINTED.replace("scale", "width"), PAGE, "no table with the head '| width | PSNR |'"),
        (PRINTED.replace("×3 dddd", "×5 dddd"), PAGE, "does not name the weights of ×5"),
        (PRINTED, PAGE.replace(WEIGHTS, ""), "does not name the weights of ×3"),
    ],
)
def test_what_has_no_place_changes_nothing(replace, capsys, printed, text, reason):
    assert replace(printed, text) == (2, text)
    assert reason in capsys.readouterr().err


def test_a_page_that_is_not_there(tmp_path, capsys):
    assert main(["page", str(tmp_path / "page.md")]) == 2
    assert "page.md cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
