"""Report on the loss of each layer in 8 bits: a table, a plot and the figures as JSON."""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from export.sensitivity import Choice, Losses, Study
from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import InputError


def write(study: Study, folder: Path, name: str, digest: str) -> None:
    """Write NAME.md, NAME.png and NAME.json into a folder, which is created if needed.

    Args:
        study: what was measured.
        folder: the folder.
        name: name of the checkpoint.
        digest: hash of the checkpoint.

    Raises:
        InputError: matplotlib is not installed.
    """
    figure = _plot(study)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / f"{name}.md") as path:
        path.write_text(markdown(study, name, digest), encoding="utf-8")
    with replaced(folder / f"{name}.json") as path:
        path.write_text(json.dumps(_facts(study), indent=1) + "\n", encoding="utf-8")
    with replaced(folder / f"{name}.png") as path:
        figure.savefig(path, format="png", dpi=100)


def _facts(study: Study) -> dict[str, Any]:
    """Return what was measured without what only the exporter uses; the manifest has that."""
    quantization = asdict(study.quantization)
    for key in ("channel_means", "ranges"):
        del quantization[key]
    return {
        "quantization": quantization,
        "chosen": asdict(study.chosen),
        "weights_only": study.weights_only,
        "layers": [asdict(layer) for layer in study.layers],
        "choices": [asdict(choice) for choice in study.choices],
    }


def markdown(study: Study, name: str, digest: str) -> str:
    """Return the ranking of the layers and the sets that were tried, as a Markdown table."""
    quantization, chosen = study.quantization, study.chosen
    dialects = list(chosen.losses)
    header = " | ".join(dialects)
    rule = "---|" * len(dialects)
    lines = [
        f"# INT8 of {name}",
        "",
        f"Weights (SHA-256 of the checkpoint): {digest}",
        "",
        "Losses are expected losses of PSNR in dB, averaged over the held-out images; the budget "
        f"was {quantization.budget_db:g} dB. Levels are the root mean square difference from fp32, "
        "in levels of 255, of the sharp photograph where it is largest.",
        "",
        f"Chosen: {len(quantization.layers)} of {len(study.layers)} layers in INT8, "
        f"{chosen.macs_share:.2%} of the MACs. Rounding only the weights of all layers costs "
        f"{study.weights_only:.4f} dB.",
        "",
        "Left, each layer alone in INT8, the highest loss for its MACs first. Right, all layers "
        "below it in INT8, with ranges for all layers. The last row has the chosen layers, with "
        "ranges for them alone.",
        "",
        f"| layer | MACs | loss: {header} | left | loss: {header} | levels: {header} |",
        f"|---|---|{rule}---|{rule}{rule}",
    ]
    first, *others = study.choices
    nothing = " | ".join("" for _ in dialects)
    lines.append(f"| none | | {nothing} {_set(first)}")
    for layer, choice in zip(study.layers, others, strict=True):
        lines.append(
            f"| {layer.name} | {layer.macs_share:.2%} | {_cells(layer.losses)} {_set(choice)}"
        )
    lines.append(f"| **chosen** | | {nothing} {_set(chosen)}")
    return "\n".join(lines) + "\n"


def _set(choice: Choice) -> str:
    """Return the right half of a row."""
    levels = " | ".join(f"{x:.2f}" for x in choice.rms_levels.values())
    return f"| {choice.macs_share:.2%} | {_cells(choice.losses)} | {levels} |"


def _cells(losses: Losses) -> str:
    return " | ".join(f"{loss:.4f}" for loss in losses.values())


def _plot(study: Study) -> Any:
    """Plot the ranking of the layers beside the losses and departures of the sets of layers."""
    try:
        figure_module: Any = import_module("matplotlib.figure")
    except ImportError:
        raise InputError("the report's plot needs matplotlib: pip install matplotlib") from None
    figure = figure_module.Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplot_mosaic([["ranking", "losses"], ["ranking", "rms_levels"]])
    chosen = study.chosen
    rest = [100 * (1 - choice.macs_share) for choice in study.choices]
    kept_out = 100 * (1 - chosen.macs_share)
    for i, dialect in enumerate(chosen.losses):
        colour = f"C{i}"
        ranks = [rank + 0.4 * i for rank in range(len(study.layers))]
        costs = [x.losses[dialect] for x in study.layers]
        axes["ranking"].barh(ranks, costs, 0.4, color=colour, label=dialect)
        for key in ("losses", "rms_levels"):
            curve = [getattr(choice, key)[dialect] for choice in study.choices]
            axes[key].plot(rest, curve, ".-", color=colour, label=dialect)
            axes[key].plot(kept_out, getattr(chosen, key)[dialect], "o", color=colour)
    axes["ranking"].set_yticks(range(len(study.layers)), [x.name for x in study.layers], fontsize=7)
    axes["ranking"].invert_yaxis()
    axes["ranking"].set_xscale("log")
    axes["ranking"].set_xlabel("expected loss of the layer alone in INT8, dB")
    axes["losses"].axhline(
        study.quantization.budget_db, color="grey", linestyle="--", label="budget"
    )
    axes["losses"].set_ylabel("expected loss, dB")
    axes["rms_levels"].set_ylabel("departure of a sharp photograph, levels")
    axes["rms_levels"].set_xlabel("share of the MACs left in fp32, % (large: the chosen set)")
    for key in ("losses", "rms_levels"):
        axes[key].axvline(kept_out, color="grey", linestyle=":", label="chosen")
        # The range of interest is close to no MACs left in fp32.
        axes[key].set_xscale("symlog", linthresh=0.02, linscale=0.5)
        axes[key].set_xlim(left=-0.01)
        axes[key].set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    for each in axes.values():
        each.legend()
        each.grid(alpha=0.3)
    return figure
