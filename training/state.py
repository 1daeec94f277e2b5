"""The state of a run: what a resume needs, in at most 9 MB.

Weights are stored in fp32; the average, as its distance from them, and the optimiser in 16 bits.
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
    """Configuration of the network and whatever else a resume must not change."""
    step: int
    """Steps taken."""
    weights: Tensor
    average: Tensor
    """Averaged weights minus weights."""
    optimiser: OptimiserState


def pack(
    identity: Mapping[str, object], step: int, network: HFDN, average: HFDN, optimiser: Optimiser
) -> State:
    """Return the state of a run, rounded to what is stored."""
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
    """Copy a state into a run's tensors, which stay where they are on their device."""
    fill(list(network.parameters()), state["weights"])
    fill(list(average.parameters()), state["weights"] + state["average"])
    optimiser.load(state["optimiser"])


def write_state(path: Path, state: State) -> None:
    """Write a state; it is whole or absent.

    Raises:
        InputError: the disk refuses.
    """
    data = io.BytesIO()  # to a file, torch raises an error of its own where the disk is full
    torch.save(state, data)
    with replaced(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def read_state(path: Path, identity: Mapping[str, object]) -> State:
    """Read a state, whichever device wrote it.

    Raises:
        CheckpointError: damaged, or of a run that differs in a part of `identity`.
    """
    try:
        # On the CPU: a step count on a device would make every step wait for it.
        state: State = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        raise CheckpointError(f"{path} is damaged ({error}); name another folder.") from None
    if names := [name for name, value in identity.items() if found.get(name) != value]:
        raise CheckpointError(
            f"{path.parent} holds a run with another {', '.join(names)}: name another folder."
        )
    return state
