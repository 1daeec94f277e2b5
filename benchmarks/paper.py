"""The figures of the paper's first table, as printed.

W. Li, S. Li, A. Liu, "Lightweight image super-resolution reconstruction with hierarchical
feature-driven network", ICIP 2020, slides. The figures of other methods are those that the authors
print, such as 30.8G MACCs for IDN at ×3, less than at ×4.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Number of images in the test sets.
SET_SIZES = {"Set5": 5, "Set14": 14, "BSD100": 100, "Urban100": 100}


@dataclass(frozen=True)
class Published:
    """One method at one scale."""

    scale: int
    method: str
    parameters: str
    """Such as "760.1k"."""
    maccs: str
    """Multiply-accumulates, such as "260.7G"."""
    scores: dict[str, tuple[str, str]]
    """PSNR in dB and SSIM, on luma, by set."""


@cache
def published() -> tuple[Published, ...]:
    """Return all rows of the table."""
    with Path(__file__).with_name("paper.csv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                int(row["scale"]),
                row["method"],
                row["parameters"],
                row["maccs"],
                {name: (row[f"{name} PSNR"], row[f"{name} SSIM"]) for name in SET_SIZES},
            )
            for row in csv.DictReader(file)
        )


def published_for(method: str, scale: int) -> Published:
    """Return the row of a method at a scale."""
    return next(row for row in published() if (row.method, row.scale) == (method, scale))


def table(scales: Sequence[int]) -> str:
    """Return the rows of these scales as a Markdown table."""
    lines = [
        f"| scale | method | parameters | MACCs | {' | '.join(SET_SIZES)} |",
        "|---|---|---|---|" + "---|" * len(SET_SIZES),
    ]
    for row in published():
        if row.scale in scales:
            cells = " | ".join(" / ".join(score) for score in row.scores.values())
            lines.append(
                f"| ×{row.scale} | {row.method} | {row.parameters} | {row.maccs} | {cells} |"
            )
    return "\n".join(lines)
