"""Parameters, multiply-accumulates and activation memory of the bundles and of the peers."""

import argparse
import json
from dataclasses import asdict, dataclass

import onnx
from tqdm import tqdm

from benchmarks import paper
from benchmarks.costs import Cost, block_costs, cost, peak_activation_bytes
from benchmarks.peers import MISSING, PEERS
from benchmarks.peers.counts import PEER_TOLERANCE, PeerRow, peer_row
from hfdn_deploy.bundle import pretrained, pretrained_scales
from hfdn_deploy.errors import GateError

# Largest relative difference between a graph of a bundle and the paper's figures.
TOLERANCE = 1e-3

UNITS = {"k": 1e3, "G": 1e9}


@dataclass(frozen=True)
class BundleRow:
    """One graph of a shipped bundle."""

    scale: int
    graph: str
    cost: Cost
    peak_activation_bytes: float
    """Per pixel of the low-resolution image."""
    parameters_apart: float | None
    """Relative difference from the paper's figure; None if the transposed convolutions were
    rewritten as larger ones, to which the paper's figures do not apply."""
    macs_apart: float | None
    """The same for MACs in the paper's convention."""
    blocks: dict[str, Cost]


def block_of(name: str) -> str:
    """Return the HFDN block of a node, such as `hfms.0.adu`, from the node's name."""
    parts = name.split(".")
    depth = {"hfms": 3, "attention": 2, "heads": 2}.get(parts[0], 1)
    return ".".join(parts[:depth])


def bundle_rows() -> list[BundleRow]:
    """Return a row for every graph of every shipped bundle."""
    rows = []
    for scale in pretrained_scales():
        bundle = pretrained(scale)
        published = paper.published_for("HFDN", scale)
        parameters, maccs = (
            float(text[:-1]) * UNITS[text[-1]] for text in (published.parameters, published.maccs)
        )
        for entry in bundle.manifest.files:
            model = onnx.load_model_from_string(bundle.read_model(entry.graph))
            found = cost(model, scale)
            as_published = any(node.op_type == "ConvTranspose" for node in model.graph.node)
            rows.append(
                BundleRow(
                    scale,
                    entry.graph,
                    found,
                    peak_activation_bytes(model, scale),
                    found.parameters / parameters - 1 if as_published else None,
                    found.macs_paper / maccs - 1 if as_published else None,
                    block_costs(model, scale, block_of),
                )
            )
    return rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks complexity`."""
    parser.add_argument("--json", action="store_true")


def main(args: argparse.Namespace) -> None:
    """Print the costs of the bundles and the peers.

    Raises:
        GateError: a bundle differs from the paper in parameters or MACCs.
    """
    bundles = bundle_rows()
    pairs = [(peer, scale) for peer in PEERS for scale in peer.scales]
    peers = [peer_row(*pair) for pair in tqdm(pairs, "peers", disable=None, leave=False)]
    if args.json:
        values = {
            "bundles": [asdict(row) for row in bundles],
            "peers": [row.to_dict() for row in peers],
            "missing": [asdict(missing) for missing in MISSING],
        }
        print(json.dumps(values, indent=1, ensure_ascii=False))
    else:
        print(bundle_table(bundles))
        for row in bundles:
            if row.graph == "fp32":
                print(f"\n×{row.scale}, by block:\n\n{block_table(row)}")
        print(f"\n{peer_table(peers)}\n\n{notes()}")
    check(bundles)


def check(rows: list[BundleRow]) -> None:
    """Check every graph against the paper's figures.

    Raises:
        GateError: a graph differs by more than `TOLERANCE`.
    """
    for row in rows:
        apart = max(abs(row.parameters_apart or 0), abs(row.macs_apart or 0))
        if apart > TOLERANCE:
            raise GateError(
                f"the ×{row.scale} {row.graph} graph differs by {apart:.2%} from the paper's "
                "parameters or MACCs; export a checkpoint of the full network."
            )


def bundle_table(rows: list[BundleRow]) -> str:
    """Return a Markdown table of the bundles' graphs beside the paper's figures."""
    lines = [
        "| scale | graph | parameters | paper | apart | MACCs, paper's convention | paper | apart "
        "| true MACs | peak activations, bytes per LR pixel |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        published = paper.published_for("HFDN", row.scale)
        lines.append(
            f"| ×{row.scale} | {row.graph} | {row.cost.parameters:,} | {published.parameters} "
            f"| {_percent(row.parameters_apart)} | {row.cost.macs_paper / 1e9:.2f}G "
            f"| {published.maccs} "
            f"| {_percent(row.macs_apart)} | {row.cost.macs_true / 1e9:.1f}G "
            f"| {row.peak_activation_bytes:,.0f} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            "Paper's convention: 1080×720 HR, transposed convolutions at their output, biases. "
            "True MACs: 1280×720 HR, weights only, transposed convolutions at their input. In the "
            "graphs, the adaptive weights are folded in and the last three convolutions are "
            "merged into one. In int8-cpu, the transposed and last convolutions are rewritten as "
            "larger ones, so the paper's figures do not apply. Activations: the graph as written, "
            "nothing fused.",
        ]
    )


def _percent(apart: float | None) -> str:
    return "" if apart is None else f"{apart:+.3%}"


def block_table(row: BundleRow) -> str:
    """Return a Markdown table of the parameters and MACs of each block."""
    lines = ["| block | parameters | MACCs, paper's convention | true MACs |", "|---|---|---|---|"]
    for name, part in row.blocks.items():
        lines.append(
            f"| {name} | {part.parameters:,} | {part.macs_paper / 1e9:.2f}G "
            f"| {part.macs_true / 1e9:.2f}G ({part.macs_true / row.cost.macs_true:.1%}) |"
        )
    return "\n".join(lines)


def peer_table(rows: list[PeerRow]) -> str:
    """Return a Markdown table of the peers beside their published figures."""
    lines = [
        "| network | scale | works on | parameters | published | reproduced by | true MACs "
        "| paper's convention | published | reproduced by | true, apart "
        "| peak activations, bytes per LR pixel | published PSNR on Set5 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        published = row.peer.published
        size = "upscaled" if row.peer.upscaled_input else "LR"
        colour = "luma" if row.peer.channels == 1 else "RGB"
        parameters, macs = (
            (" | " if by is None else f"{figures[row.scale]}{unit} | {' or '.join(by) or 'none'}")
            for figures, unit, by in (
                (published.parameters, "K", row.parameters_reproduced_by),
                (published.macs, "G", row.macs_reproduced_by),
            )
        )
        lines.append(
            f"| {row.peer.name} | ×{row.scale} | {size} {colour} "
            f"| {row.parameters:,} | {parameters} | {row.cost.macs_true / 1e9:.1f}G "
            f"| {row.cost.macs_paper / 1e9:.1f}G | {macs} | {_percent(row.macs_apart)} "
            f"| {row.peak_activation_bytes:,.0f} | {published.psnr.get(row.scale, '')} |"
        )
    return "\n".join(lines)


def notes() -> str:
    """Return Markdown notes: how figures are compared, sources, deviations, missing networks."""
    lines = [
        "A count reproduces a published figure if it equals the figure when rounded or truncated; "
        f"MACs may also differ by {PEER_TOLERANCE:.1%}. Parameters are counted in three ways: "
        "all, those of convolutions, and those without biases.",
        "",
    ]
    for peer in PEERS:
        source = peer.published.source
        said = (f"figures: {source}" if source else "", peer.note)
        lines.append(f"- {peer.name}: {'; '.join(filter(None, said))}.")
    for missing in MISSING:
        published = missing.published
        figures = ", ".join(
            f"×{scale} {count}K parameters, {published.macs[scale]}G MACs, "
            f"{published.psnr[scale]} dB"
            for scale, count in published.parameters.items()
        )
        lines.append(
            f"- {missing.name} (published: {figures}; {published.source}) is missing: "
            f"{missing.reason}."
        )
    return "\n".join(lines)
