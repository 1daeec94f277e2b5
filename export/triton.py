"""A bundle as a model repository of Triton Inference Server.

Fields are those of Triton's `model_config.proto`, against which the tests parse what is written.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from hfdn_deploy.atomic import replaced
from hfdn_deploy.bundle import GRAPHS, Bundle, TensorSpec, graph_for
from hfdn_deploy.engines import EngineManifest, open_engine
from hfdn_deploy.errors import InputError

# Pictures of one size that come within this time are run as one batch.
QUEUE_DELAY_US = 2000
MAX_BATCH = 8
WARMUP_SIZE = (180, 320)


def write_repository(
    bundle: Bundle, output: Path, device: str = "cuda", engines: Sequence[Path] = ()
) -> list[str]:
    """Write a repository with a model for each precision of a bundle, and for each engine.

    Args:
        bundle: what ONNX Runtime is to run in Triton.
        output: directory to make.
        device: "cuda" or "cpu"; on which Triton's instances are to run.
        engines: TensorRT engines, built on the machine that serves them.

    Returns:
        The names of the models.

    Raises:
        InputError: `output` exists, or an engine cannot be served.
        BundleError, GateError, EngineError: something that is to be served is not fit for it.
    """
    if output.exists():
        raise InputError(f"{output} exists; remove it, or name another directory.")
    present = {entry.graph for entry in bundle.manifest.files}
    names = []
    with replaced(output) as temporary:
        for precision in GRAPHS:
            graph = graph_for(precision, device)
            if graph not in present:
                continue
            entry = bundle.entry(graph)
            name = f"hfdn_x{bundle.manifest.scale}_{precision}"
            text = _config(name, "onnxruntime", device, MAX_BATCH, entry.input, entry.output)
            folder = _model(temporary, name, text)
            (folder / "model.onnx").write_bytes(bundle.read_model(graph))
            names.append(name)
        for path in engines:
            manifest = open_engine(path).manifest
            name = f"hfdn_x{manifest.scale}_{manifest.precision}_tensorrt"
            if name in names:
                raise InputError(f"{path} would be a second {name}; name one engine for each.")
            (lr,) = manifest.inputs
            text = _config(name, "tensorrt", "cuda", _servable(path, manifest), lr, manifest.output)
            shutil.copyfile(path, _model(temporary, name, text) / "model.plan")
            names.append(name)
    return names


def _model(repository: Path, name: str, config: str) -> Path:
    """The folder of a model's only version, beside whose parent the configuration is written."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder


def _servable(path: Path, manifest: EngineManifest) -> int:
    """The largest batch that an engine takes; InputError if Triton cannot load it."""
    if manifest.spec.flavour != "tensorrt":
        raise InputError(
            f"{path} is no engine that Triton loads; build it with --flavour tensorrt."
        )
    return max(profile.maximum[0] for profile in manifest.spec.profiles)


def _config(
    name: str, backend: str, device: str, max_batch: int, lr: TensorSpec, sr: TensorSpec
) -> str:
    """The text of `config.pbtxt`; sizes are without the batch, -1 where they vary."""
    height, width = WARMUP_SIZE
    kind = {"cuda": "KIND_GPU", "cpu": "KIND_CPU"}[device]
    return f"""\
name: "{name}"
backend: "{backend}"
max_batch_size: {max_batch}
input {{
  name: "{lr.name}"
  data_type: TYPE_FP32
  dims: [ {_dims(lr)} ]
}}
output {{
  name: "{sr.name}"
  data_type: TYPE_FP32
  dims: [ {_dims(sr)} ]
}}
dynamic_batching {{
  max_queue_delay_microseconds: {QUEUE_DELAY_US}
}}
instance_group {{
  count: 1
  kind: {kind}
}}
model_warmup {{
  name: "noise"
  batch_size: 1
  inputs {{
    key: "{lr.name}"
    value {{
      data_type: TYPE_FP32
      dims: [ 1, {height}, {width} ]
      random_data: true
    }}
  }}
}}
"""


def _dims(spec: TensorSpec) -> str:
    return ", ".join(str(side) if isinstance(side, int) else "-1" for side in spec.shape[1:])
