"""Scatter plots whose points are named."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from matplotlib.axes import Axes
from matplotlib.transforms import Bbox


@dataclass(frozen=True)
class Point:
    """A point and its name."""

    x: float
    y: float
    name: str
    own: bool
    """Whether it is HFDN's: a diamond."""

    @property
    def place(self) -> tuple[float, float]:
        return self.x, self.y


def style(own: bool, hollow: bool) -> dict[str, Any]:
    """Return Matplotlib's options for a point."""
    marker, colour = ("D", "C3") if own else ("o", "C0")
    return {"marker": marker, "color": colour, "facecolors": "none" if hollow else colour}


def scatter(axes: Axes, points: Sequence[Point], published: bool = False) -> None:
    """Draw points and their names, placing each name clear of the others if possible.

    Args:
        axes: where to draw.
        points: what to draw.
        published: whether points other than HFDN's are published figures, which are hollow.
    """
    for point in points:
        axes.scatter(*point.place, **style(point.own, published and not point.own))
    axes.grid(which="both", alpha=0.25)
    axes.margins(0.15)
    axes.figure.get_figure(root=True).draw_without_rendering()
    dots = [axes.transData.transform(point.place) for point in points]
    taken = [Bbox([dot - 4, dot + 4]) for dot in dots]
    if legend := axes.get_legend():
        taken.append(legend.get_window_extent())
    for point in points:
        for height, side in product((4, -12, 16, -24, 28, -36, 40, -48), ("left", "right")):
            place = (6 if side == "left" else -6, height)
            note = axes.annotate(
                point.name, point.place, place, textcoords="offset points", ha=side, fontsize=8
            )
            box = note.get_window_extent()
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                if abs(height) > 12:
                    line = {"arrowstyle": "-", "color": "grey", "linewidth": 0.5, "shrinkB": 4}
                    axes.annotate(
                        "", point.place, place, textcoords="offset points", arrowprops=line
                    )
                break
            note.remove()
        else:
            note = axes.annotate(point.name, point.place, fontsize=8)
        taken.append(note.get_window_extent())
