"""Counted costs of the peers, compared with the published figures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.costs import Cost, cost, peak_activation_bytes
from benchmarks.peers import Peer, graph, network

# Largest relative difference between MACs and a published figure that they reproduce.
PEER_TOLERANCE = 5e-3


@dataclass(frozen=True)
class PeerRow:
    """One peer at one scale."""

    peer: Peer
    scale: int
    parameters: int
    """All parameters of the network as it is trained."""
    cost: Cost
    peak_activation_bytes: float
    """Per pixel of the low-resolution image."""

    @property
    def parameters_reproduced_by(self) -> list[str] | None:
        """Names of the counts that give the published parameters; None if none are published."""
        counts = {
            "all": self.parameters,
            "weights and biases": self.cost.parameters,
            "weights": self.cost.weights,
        }
        published = self.peer.published.parameters.get(self.scale)
        return reproduced_by(published, {k: v / 1e3 for k, v in counts.items()})

    @property
    def macs_reproduced_by(self) -> list[str] | None:
        """Names of the conventions that give the published MACs; None if none are published."""
        counts = {"true": self.cost.macs_true, "paper's": self.cost.macs_paper}
        published = self.peer.published.macs.get(self.scale)
        giga = {k: v / 1e9 for k, v in counts.items()}
        return reproduced_by(published, giga, PEER_TOLERANCE)

    @property
    def macs_apart(self) -> float | None:
        """Relative difference of the true MACs from the published ones, if there are any."""
        published = self.peer.published.macs.get(self.scale)
        return self.cost.macs_true / 1e9 / float(published) - 1 if published else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON-ready values."""
        published = self.peer.published
        by_scale = {
            name: getattr(published, name).get(self.scale)
            for name in ("parameters", "macs", "psnr")
        }
        return {
            "name": self.peer.name,
            "scale": self.scale,
            "channels": self.peer.channels,
            "upscaled_input": self.peer.upscaled_input,
            "parameters": self.parameters,
            "cost": asdict(self.cost),
            "peak_activation_bytes": self.peak_activation_bytes,
            "published": {**by_scale, "source": published.source},
            "parameters_reproduced_by": self.parameters_reproduced_by,
            "macs_reproduced_by": self.macs_reproduced_by,
            "macs_apart": self.macs_apart,
            "note": self.peer.note,
        }


def peer_row(peer: Peer, scale: int) -> PeerRow:
    """Count one peer: parameters from the PyTorch network, everything else from the graph."""
    parameters = sum(p.numel() for p in network(peer, scale).parameters())
    model = graph(peer, scale)
    return PeerRow(peer, scale, parameters, cost(model, scale), peak_activation_bytes(model, scale))


def reproduced_by(
    published: str | None, counts: Mapping[str, float], tolerance: float = 0
) -> list[str] | None:
    """Return the names of the counts that equal a figure when rounded or truncated.

    Args:
        published: figure as printed, such as "91.2".
        counts: counts by name.
        tolerance: relative difference that also passes.

    Returns:
        The names, or None if there is no figure.
    """
    if published is None:
        return None
    figure = float(published)
    unit = 10.0 ** -len(published.partition(".")[2])
    apart = {name: count - figure for name, count in counts.items()}
    return [
        name for name, x in apart.items() if -unit / 2 <= x < unit or abs(x) <= tolerance * figure
    ]
