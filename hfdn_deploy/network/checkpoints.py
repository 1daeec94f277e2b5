"""Checkpoints: safetensors with the configuration in the metadata; `.pth` read on request."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hfdn_deploy.atomic import check_regular, replaced
from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.network.config import METADATA_KEY, HFDNConfig
from hfdn_deploy.network.hfdn import HFDN


def save_checkpoint(path: Path, network: HFDN) -> None:
    """Write weights (fp32) and configuration to a safetensors file, atomically."""
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {METADATA_KEY: json.dumps(network.config.to_dict(), sort_keys=True)}
    with replaced(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: str | os.PathLike[str], config: HFDNConfig | None = None) -> HFDN:
    """Read a checkpoint into a network in evaluation mode on the CPU.

    Args:
        path: a `.safetensors` file, or a `.pth`/`.pt` file holding a state dict (tensors only:
            pickled code is never run).
        config: the network expected. Needed for `.pth`, which does not say; checked against
            the metadata of `.safetensors`.

    Raises:
        CheckpointError: unreadable, no HFDN, another configuration, or missing, extra or
            misshapen tensors (the message names them).
    """
    path = Path(path)
    check_regular(path, CheckpointError)
    found: HFDNConfig | None
    if path.suffix == ".safetensors":
        found, tensors = _read_safetensors(path)
    elif path.suffix in (".pth", ".pt"):
        found, tensors = config, _read_pth(path)
    else:
        raise CheckpointError(f"{path} is no checkpoint: expected .safetensors, .pth or .pt.")
    if found is None:
        raise CheckpointError(
            f"{path} does not say which HFDN it holds; name its scale, or take a .safetensors."
        )
    if config is not None and config != found:
        wanted, present = config.to_dict(), found.to_dict()
        differences = [
            f"{k} {present[k]}, not {wanted[k]}" for k in wanted if wanted[k] != present[k]
        ]
        raise CheckpointError(f"{path} holds an HFDN with {' and '.join(differences)}.")
    network = HFDN(found)
    _check_tensors(path, tensors, network.state_dict())
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def _read_safetensors(path: Path) -> tuple[HFDNConfig, dict[str, Tensor]]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it anew.") from None
    try:
        return HFDNConfig.from_dict(json.loads(metadata[METADATA_KEY])), tensors
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError(
            f"{path} has no HFDN configuration in its metadata: it is another network's file."
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read_pth(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path.") from None
    except Exception as error:  # torch raises half a dozen kinds for a foreign file
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise CheckpointError(f"{path} is no file of plain tensors ({reason}).") from None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict (names to tensors); save that alone.")
    return dict(state)


def _check_tensors(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse names, shapes and values that are not the network's, naming the difference."""
    problems = []
    if missing := [name for name in wanted if name not in found]:
        problems.append(f"missing {_some(missing)}")
    if extra := [name for name in found if name not in wanted]:
        problems.append(f"unexpected {_some(extra)}")
    shared = [name for name in wanted if name in found]
    if shapes := [
        f"{name} is {list(found[name].shape)}, not {list(wanted[name].shape)}"
        for name in shared
        if found[name].shape != wanted[name].shape
    ]:
        problems.append(_some(shapes))
    if bad := [name for name in shared if not torch.isfinite(found[name]).all()]:
        problems.append(f"NaN or infinity in {_some(bad)}")
    if problems:
        raise CheckpointError(f"{path} does not fit this HFDN: {'; '.join(problems)}.")


def _some(names: list[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
