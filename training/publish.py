"""Publishing of averaged weights in half precision, small enough to commit every few hours."""

from pathlib import Path

import safetensors
import safetensors.torch

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import InputError


def publish(run: Path, output: Path) -> list[Path]:
    """Write the averaged weights below a folder to `output`, rounded to half precision.

    Returns:
        The files written, one for each scale.

    Raises:
        InputError: there are no averaged weights below `run`.
    """
    sources = sorted(run.rglob("hfdn_x*.safetensors"))
    if not sources:
        raise InputError(f"there are no averaged weights below {run}; name the folder of a run.")
    written = []
    for source in sources:
        with safetensors.safe_open(source, framework="pt") as file:
            tensors = {name: file.get_tensor(name).half() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        with replaced(output / source.name) as temporary:
            temporary.write_bytes(safetensors.torch.save(tensors, metadata))
        written.append(output / source.name)
    return written
