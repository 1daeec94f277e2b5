"""Checkpoints: safetensors files with the configuration in their metadata, and `.pth` files."""

import json
import logging
import os
import re
import shlex
import warnings
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

logger = logging.getLogger(__name__)

# Keys under which trainers keep a state dict, preferred first: averaged weights are better.
_WRAPPERS = ("params_ema", "params", "state_dict", "model_state_dict", "model")
# Prefixes of all names from DataParallel, torch.compile and trainers.
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
# A counter that torch.optim.swa_utils.AveragedModel stores beside the weights.
_COUNT = "n_averaged"


def save_checkpoint(path: Path, network: HFDN) -> None:
    """Write weights (fp32) and configuration to a safetensors file, atomically."""
    tensors = {k: v.detach().float().cpu().contiguous() for k, v in network.state_dict().items()}
    metadata = {METADATA_KEY: json.dumps(network.config.to_dict(), sort_keys=True)}
    with replaced(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(tensors, metadata))


def load_checkpoint(path: str | os.PathLike[str], config: HFDNConfig | None = None) -> HFDN:
    """Read a checkpoint into a network in evaluation mode on the CPU.

    Weights that a trainer wrapped, renamed or stored in fewer bits are converted, and a log message
    says how.

    Args:
        path: a `.safetensors` file, or a `.pth`/`.pt` file holding a state dict (tensors only:
            pickled code is never run).
        config: the expected network. Required for a file without our metadata; otherwise it is
            checked against the metadata.

    Raises:
        CheckpointError: the file is unreadable, is not an HFDN, has another configuration, or has
            missing, extra or misshapen tensors (the message names them).
    """
    path = Path(path)
    check_regular(path, CheckpointError)
    suffix = path.suffix.lower()
    taken: list[str] = []
    found: HFDNConfig | None
    if suffix == ".safetensors":
        found, tensors = _read_safetensors(path, config)
    elif suffix in (".pth", ".pt"):
        found, tensors = config, _unwrap(path, _read_pth(path), taken)
    else:
        raise CheckpointError(f"{path} is not a checkpoint; name a .safetensors, .pth or .pt file.")
    if found is None:
        raise CheckpointError(
            f"{path} does not say which HFDN it holds; name its scale, or a .safetensors file."
        )
    if config is not None and config != found:
        wanted, present = config.to_dict(), found.to_dict()
        differences = [
            f"{k} {present[k]}, not {wanted[k]}" for k in wanted if wanted[k] != present[k]
        ]
        raise CheckpointError(f"{path} holds an HFDN with {' and '.join(differences)}.")
    network = HFDN(found)
    tensors = _plain(path, _without_prefixes(tensors, taken), taken)
    _check_tensors(path, tensors, network.state_dict())
    if taken:
        logger.info("%s: took %s", path, ", ".join(taken))
    network.load_state_dict(tensors)
    return network.for_inference()


def _read_safetensors(
    path: Path, config: HFDNConfig | None
) -> tuple[HFDNConfig, dict[str, Tensor]]:
    """Return the configuration in the file, or else `config`, and the tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path.") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy it again.") from None
    if config and METADATA_KEY not in metadata:
        return config, tensors
    try:
        return HFDNConfig.from_dict(json.loads(metadata[METADATA_KEY])), tensors
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError(
            f"{path} has no HFDN configuration in its metadata; name its scale if it is an HFDN's."
        ) from None
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read_pth(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a refused file raises an error anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; check the path.") from None
    except Exception as error:  # torch raises half a dozen types for a foreign file
        text = re.sub(r"\x1b\[\d*m", "", str(error))
        if pickled := re.search(r"GLOBAL ([\w.]+)", text):
            target = str(path.with_name(f"{path.stem}-tensors.pth"))
            code = (
                f"import torch; x = torch.load({str(path)!r}, 'cpu', weights_only=False); "
                f"inner = [x[k] for k in {_WRAPPERS} if isinstance(x, dict) and k in x]; "
                "x = [*inner, x][0]; "
                f"torch.save(getattr(x, 'state_dict', lambda: x)(), {target!r})"
            )
            raise CheckpointError(
                f"{path} is not a file of plain tensors: it pickles {pickled[1]}, and unpickling "
                "runs any code that the file names. If you trust it, extract the tensors where it "
                f"was made: {shlex.join(['python', '-c', code])}"
            ) from None
        reason = text.rpartition("error: ")[2].strip().partition("\n")[0].rstrip(". ")
        raise CheckpointError(
            f"{path} is not a file of plain tensors ({reason or type(error).__name__}); copy it "
            "again."
        ) from None


def _unwrap(path: Path, state: object, taken: list[str]) -> dict[str, Tensor]:
    """Return the state dict in a saved object, and note the keys that led to it."""
    while isinstance(state, Mapping) and not all(isinstance(v, Tensor) for v in state.values()):
        inner = [name for name in _WRAPPERS if isinstance(state.get(name), Mapping)]
        if not inner:
            break
        taken.append(inner[0] + (f" (not {', '.join(inner[1:])})" if inner[1:] else ""))
        state = state[inner[0]]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        keys = f", only {_some([*map(str, state)])}" if isinstance(state, Mapping) else ""
        raise CheckpointError(
            f"{path} holds no state dict (names to tensors){keys}; save that alone."
        )
    return {str(name): tensor for name, tensor in state.items()}


def _without_prefixes(tensors: dict[str, Tensor], taken: list[str]) -> dict[str, Tensor]:
    """Return the tensors without the prefixes of all their names, and note the prefixes."""
    prefixes = (p for p in _PREFIXES if all(n.startswith(p) or n == _COUNT for n in tensors))
    if not tensors or (prefix := next(prefixes, None)) is None:
        return tensors
    taken.append(f"names behind {prefix!r}")
    shorter = {n.removeprefix(prefix): tensor for n, tensor in tensors.items() if n != _COUNT}
    return _without_prefixes(shorter, taken)


def _plain(path: Path, tensors: Mapping[str, Tensor], taken: list[str]) -> dict[str, Tensor]:
    """Return the tensors in fp32, and note their other dtypes."""
    for name, tensor in tensors.items():
        kind = tensor.device.type, tensor.layout, tensor.is_floating_point()
        if kind != ("cpu", torch.strided, True):
            where = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise CheckpointError(
                f"{path}: {name} is {where}; save dense floating-point tensors on the CPU."
            )
    others = {str(t.dtype).removeprefix("torch.") for t in tensors.values()} - {"float32"}
    if others:
        taken.append(f"{' and '.join(sorted(others))} as float32")
    return {name: tensor.float() for name, tensor in tensors.items()}


def _check_tensors(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError if names, shapes or values do not fit the network."""
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
