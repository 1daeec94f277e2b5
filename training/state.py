"""The state of a run, from which it can resume, in at most 9 MB.

Weights are stored in fp32. The average, stored as its difference from the weights, and the
optimiser are in 16 bits.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.network import HFDN
from training.soap import Optimiser, OptimiserState, fill, flat


class State(TypedDict):
    """A run between two steps. Tensors are flat, on the CPU, in the order of the parameters."""

    identity: dict[str, object]
    """Configuration of the network, and the other settings that a resume must not change."""
    step: int
    """Steps taken."""
    weights: Tensor
    average: Tensor
    """Averaged weights minus weights."""
    optimiser: OptimiserState


def pack(
    identity: Mapping[str, object], step: int, network: HFDN, average: HFDN, optimiser: Optimiser
) -> State:
    """Return the state of a run, rounded to the stored precision."""
    weights = flat(list(network.parameters()))
    return {
        "identity": dict(identity),
        "step": step,
        "weights": weights,
        "average": (flat(list(average.parameters())) - weights).half(),
        "optimiser": optimiser.state(),
    }


@torch.no_grad()
def unpack(state: State, network: HFDN, average: HFDN, optimiser: Optimiser) -> None:
    """Copy a state into a run's tensors, in place."""
    fill(list(network.parameters()), state["weights"])
    fill(list(average.parameters()), state["weights"] + state["average"])
    optimiser.load(state["optimiser"])


def write_state(path: Path, state: State) -> None:
    """Write a state; the file is whole or absent.

    Raises:
        InputError: the file cannot be written.
    """
    data = io.BytesIO()  # torch.save to a file raises its own type of error if the disk is full
    torch.save(state, data)
    with replaced(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def read_state(path: Path, identity: Mapping[str, object]) -> State:
    """Read a state that any device wrote.

    Raises:
        CheckpointError: the file is damaged, or the run differs in a part of `identity`.
    """
    try:
        # On the CPU: every step would wait for a step count on a device.
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:  # torch raises many types of errors for a damaged file
        raise CheckpointError(f"{path} is damaged ({error}); name another folder.") from None
    if names := [name for name, value in identity.items() if found.get(name) != value]:
        raise CheckpointError(
            f"{path.parent} holds a run with another {', '.join(names)}; name another folder."
        )
    return state
