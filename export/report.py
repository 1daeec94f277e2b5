"""The report on which layers bear 8 bits: a table, a plot and the figures as JSON."""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from export.sensitivity import RANKED_WITH, Losses, Study
from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import InputError


def write(study: Study, folder: Path, name: str) -> None:
    """Write NAME.md, NAME.png and NAME.json into a folder, which is made if need be.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = _plot(study)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / f"{name}.md") as path:
        path.write_text(markdown(study, name), encoding="utf-8")
    with replaced(folder / f"{name}.json") as path:
        path.write_text(json.dumps(asdict(study), indent=1) + "\n", encoding="utf-8")
    with replaced(folder / f"{name}.png") as path:
        figure.savefig(path, format="png", dpi=100)


def markdown(study: Study, name: str) -> str:
    """Calibrators, ranking of the layers and the sets that were tried, as tables."""
    chosen = study.quantization
    dialects = list(study.choices[0].losses)
    header = " | ".join(dialects)
    rule = "---|" * len(dialects)
    lines = [
        f"# INT8 of {name}",
        "",
        f"All losses are expected losses of PSNR in dB, of the held-out picture that loses most. "
        f"The budget was {chosen.budget_db:g} dB.",
        "",
        f"Chosen: {len(chosen.layers)} of {len(study.layers)} layers in INT8, "
        f"{chosen.macs_share:.2%} of the MACs, ranges by {chosen.calibrator}. Rounding the weights "
        f"of all layers and nothing else costs {study.weights_only:.4f} dB.",
        "",
        "For each calibrator the largest set within the budget, or the one at which the search "
        "ended because another calibrator had left more within it:",
        "",
        f"| calibrator | MACs in INT8 | {header} |",
        f"|---|---|{rule}",
        *(
            f"| {key} | {choice.macs_share:.2%} | {_cells(choice.losses)} |"
            for key, choice in study.calibrators.items()
        ),
        "",
        f"Each layer alone in INT8 (ranges by {RANKED_WITH}), dearest for its MACs first, then all "
        "but those down to it:",
        "",
        f"| layer | MACs | {header} | left | {header} |",
        f"|---|---|{rule}---|{rule}",
    ]
    first, *others = study.choices
    lines.append(
        f"| none | | {' | '.join('' for _ in dialects)} | 100.00% | {_cells(first.losses)} |"
    )
    for layer, choice in zip(study.layers, others, strict=True):
        lines.append(
            f"| {layer.name} | {layer.macs_share:.2%} | {_cells(layer.losses)} "
            f"| {choice.macs_share:.2%} | {_cells(choice.losses)} |"
        )
    return "\n".join(lines) + "\n"


def _cells(losses: Losses) -> str:
    return " | ".join(f"{loss:.4f}" for loss in losses.values())


def _plot(study: Study) -> Any:
    """The ranking of the layers beside the losses of the sets of layers."""
    try:
        figure_module: Any = import_module("matplotlib.figure")
    except ImportError:
        raise InputError("the report's plot needs matplotlib: pip install matplotlib") from None
    figure = figure_module.Figure(figsize=(12, 7), layout="constrained")
    ranking, frontier = figure.subplots(1, 2)
    chosen = study.quantization
    for i, dialect in enumerate(study.choices[0].losses):
        colour = f"C{i}"
        ranks = [rank + 0.4 * i for rank in range(len(study.layers))]
        ranking.barh(
            ranks, [x.losses[dialect] for x in study.layers], 0.4, color=colour, label=dialect
        )
        rest = [100 * (1 - choice.macs_share) for choice in study.choices]
        losses = [choice.losses[dialect] for choice in study.choices]
        frontier.plot(rest, losses, ".-", color=colour, label=dialect)
    ranking.set_yticks(range(len(study.layers)), [x.name for x in study.layers], fontsize=7)
    ranking.invert_yaxis()
    ranking.set_xscale("log")
    ranking.set_xlabel("expected loss of the layer alone in INT8, dB")
    frontier.axhline(chosen.budget_db, color="grey", linestyle="--", label="budget")
    kept_out = 100 * (1 - chosen.macs_share)
    frontier.axvline(kept_out, color="grey", linestyle=":", label="chosen")
    # What matters happens close to no MACs left in fp32.
    frontier.set_xscale("symlog", linthresh=0.02, linscale=0.5)
    frontier.set_xlim(left=-0.01)
    frontier.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    frontier.set_xlabel("share of the MACs left in fp32, %")
    frontier.set_ylabel("expected loss, dB")
    for axes in (ranking, frontier):
        axes.legend()
        axes.grid(alpha=0.3)
    return figure
