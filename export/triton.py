"""Export of a bundle to a model repository of Triton Inference Server.

Fields are those of Triton's `model_config.proto`; the tests parse the files written with it.
"""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from export.image import make_image_graph
from hfdn_deploy.atomic import replaced
from hfdn_deploy.bundle import GRAPHS, Bundle, TensorSpec, graph_for
from hfdn_deploy.engines import EngineManifest, Shape, ShapeProfile, open_engine
from hfdn_deploy.errors import InputError

# Images of one size that arrive within this time are run as one batch.
QUEUE_DELAY_US = 2000
MAX_BATCH = 8
WARMUP: Shape = (1, 180, 320)
# Triton's dtype names by NumPy's.
_TYPES = {"uint8": "UINT8", "float32": "FP32"}


def write_repository(
    bundle: Bundle, output: Path, device: str = "cuda", engines: Sequence[Path] = ()
) -> list[str]:
    """Write a repository with an image graph for each precision of a bundle, and each engine.

    Args:
        bundle: the graphs that ONNX Runtime runs in Triton.
        output: directory to create.
        device: "cuda" or "cpu", on which Triton runs the bundle's graphs.
        engines: TensorRT engines, built on the machine that serves them.

    Returns:
        The names of the models.

    Raises:
        InputError: `output` exists, or an engine cannot be served.
        BundleError, GateError, EngineError: a graph or an engine is damaged or failed its gates.
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
            name = f"hfdn_x{bundle.manifest.scale}_{precision}"
            model, _ = make_image_graph(bundle, graph)
            (source,), (result,) = (
                [TensorSpec.from_onnx(value) for value in side]
                for side in (model.graph.input, model.graph.output)
            )
            text = _config(name, "onnxruntime", device, MAX_BATCH, source, result, WARMUP)
            (_model(temporary, name, text) / "model.onnx").write_bytes(model.SerializeToString())
            names.append(name)
        for path in engines:
            manifest = open_engine(path).manifest
            name = f"hfdn_x{manifest.scale}_{manifest.precision}_tensorrt"
            if name in names:
                raise InputError(
                    f"{path} would be a second model {name}; name one engine for each precision."
                )
            (lr,) = manifest.inputs
            number, profile = _servable(path, manifest)
            most, warm_up = profile.maximum[0], profile.optimum
            text = _config(
                name, "tensorrt", "cuda", most, lr, manifest.output, warm_up, profile=number
            )
            shutil.copyfile(path, _model(temporary, name, text) / "model.plan")
            names.append(name)
    return names


def _model(repository: Path, name: str, config: str) -> Path:
    """Write a model's configuration and return the folder of its only version."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(config, encoding="utf-8")
    return folder


def _servable(path: Path, manifest: EngineManifest) -> tuple[int, ShapeProfile]:
    """Return an engine's largest profile, with its number; Triton serves only one.

    Raises:
        InputError: Triton cannot load the engine.
    """
    if manifest.spec.flavour != "tensorrt":
        raise InputError(
            f"{path} is not an engine that Triton loads; build it with --flavour tensorrt."
        )
    profiles = enumerate(manifest.spec.profiles)
    return max(profiles, key=lambda pair: math.prod(pair[1].maximum))


def _config(
    name: str,
    backend: str,
    device: str,
    max_batch: int,
    source: TensorSpec,
    result: TensorSpec,
    warm_up: Shape,
    profile: int | None = None,
) -> str:
    """Return the text of `config.pbtxt`; sizes are without the batch, -1 where they vary."""
    kind = {"cuda": "KIND_GPU", "cpu": "KIND_CPU"}[device]
    number, *sides = source.sized(*warm_up)
    types = [f"TYPE_{_TYPES[spec.dtype]}" for spec in (source, result)]
    chosen = "" if profile is None else f'\n  profile: "{profile}"'
    return f"""\
name: "{name}"
backend: "{backend}"
max_batch_size: {max_batch}
input {{
  name: "{source.name}"
  data_type: {types[0]}
  dims: [ {_dims(source)} ]
}}
output {{
  name: "{result.name}"
  data_type: {types[1]}
  dims: [ {_dims(result)} ]
}}
dynamic_batching {{
  max_queue_delay_microseconds: {QUEUE_DELAY_US}
}}
instance_group {{
  count: 1
  kind: {kind}{chosen}
}}
model_warmup {{
  name: "noise"
  batch_size: {number}
  inputs {{
    key: "{source.name}"
    value {{
      data_type: {types[0]}
      dims: [ {", ".join(map(str, sides))} ]
      random_data: true
    }}
  }}
}}
"""


def _dims(spec: TensorSpec) -> str:
    return ", ".join(str(side) if isinstance(side, int) else "-1" for side in spec.shape[1:])
