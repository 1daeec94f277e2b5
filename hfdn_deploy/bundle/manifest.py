"""The content of a bundle's `manifest.json` as frozen dataclasses."""

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hfdn_deploy.errors import BackendError

if TYPE_CHECKING:
    import onnx

MANIFEST = "manifest.json"
SCHEMA = 7

# The graphs that each precision needs: backends on a CPU need a dialect of their own for INT8.
GRAPHS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8", "int8-cpu")}
GRAPH_NAMES = tuple(name for names in GRAPHS.values() for name in names)
# Graphs for OpenVINO that have no file of their own, and the graph that each is derived from on
# loading: fp32 in shorter numbers; int8-cpu without the pairs that OpenVINO does not need; the same
# with shorter weights, for CPUs where sums of two 8-bit products saturate; the same with bf16
# around the integers.
DERIVED = {
    "bf16": "fp32",
    "int8-openvino": "int8-cpu",
    "int8-openvino-7bit": "int8-cpu",
    "int8-openvino-bf16": "int8-cpu",
}
PRECISIONS = (*GRAPHS, "bf16")


def graph_for(precision: str, dialect: str) -> str:
    """Return the name of the graph that runs a precision.

    Args:
        precision: one of `PRECISIONS`.
        dialect: the kind of backend: "cpu" (ONNX Runtime on a CPU), "openvino" or "cuda".

    Raises:
        BackendError: the precision is bf16, which ONNX Runtime and TensorRT do not support.
    """
    if precision == "bf16" and dialect != "openvino":
        raise BackendError("bf16 runs only on openvino and torch-cuda", "choose one, or fp32")
    return f"int8-{dialect}" if precision == "int8" and dialect != "cuda" else precision


def is_scale(name: str) -> bool:
    """Return whether a name has the form of "x4", which stands for a pretrained bundle."""
    return re.fullmatch(r"x[1-9]\d?", name) is not None


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    dtype: str
    """NumPy's name, such as "float32"."""
    shape: tuple[int | str, ...]
    """N, C, H, W, or N, H, W, C of an image graph; a name stands for a size that may vary."""

    @classmethod
    def from_onnx(cls, value: "onnx.ValueInfoProto") -> "TensorSpec":
        """Describe an input or output of an ONNX graph."""
        import onnx  # late: the command line reads `PRECISIONS` before it needs a graph

        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        return cls(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))

    def sized(self, number: int, height: int, width: int) -> tuple[int, ...]:
        """Return the shape with these sizes where they may vary; channels never vary."""
        planes = isinstance(self.shape[1], int)
        wanted = (number, 0, height, width) if planes else (number, height, width, 0)
        sizes = zip(self.shape, wanted, strict=True)
        return tuple(fixed if isinstance(fixed, int) else size for fixed, size in sizes)


@dataclass(frozen=True)
class ParityCase:
    """The difference of one output from the PyTorch reference."""

    name: str
    shape: tuple[int, ...]
    """Shape of the input, (N, 1, H, W)."""
    max_abs: float
    """Largest absolute difference, on the scale 0..1."""
    mean_abs: float
    psnr_db: float | None
    """PSNR between the two outputs in luma levels (peak 255); None if they are equal."""


@dataclass(frozen=True)
class KindParity:
    """The departure from the PyTorch reference on one kind of image, in levels of 255."""

    kind: str
    """One of `export.kinds.KINDS`, or "downscaled photographs"."""
    images: int
    rms_levels: float
    """Root mean square of the difference, for the image where it is largest."""
    max_levels: float
    """Largest difference of a pixel."""
    beyond: dict[str, float]
    """Share of all pixels that differ by more levels than the key says."""
    banding_levels: float
    """Largest change of the difference from a pixel to its neighbour."""
    original_db: tuple[float, float] | None
    """Mean PSNR of the reference and of the graph against the originals; None without originals."""


@dataclass(frozen=True)
class Gate:
    """A measured figure and its upper limit."""

    name: str
    value: float
    limit: float


@dataclass(frozen=True)
class Parity:
    """The comparison of a graph with the PyTorch reference, and its gates."""

    passed: bool
    gates: tuple[Gate, ...]
    """The gates of the graph, which `export.parity.GATES` explains."""
    photographs_sha256: str
    """Hash of the originals that PSNR was measured on."""
    worst: ParityCase
    cases: tuple[ParityCase, ...]
    kinds: tuple[KindParity, ...]


@dataclass(frozen=True)
class Ranges:
    """How an INT8 graph quantises the tensors of the fp32 graph."""

    channel_scales: dict[str, tuple[float, ...]]
    """Factors of the output channels before quantisation, by learned convolution."""
    limits: dict[str, tuple[float, float]]
    """Lowest and highest value by tensor of the scaled graph; values beyond are clipped.

    Scales and zero points follow from these."""


@dataclass(frozen=True)
class Quantization:
    """The parameters of the INT8 graphs, which can be made again from them without images."""

    pictures_sha256: str
    """Hash of the images used, drawings aside."""
    budget_db: float
    """Largest loss of PSNR that was allowed, on average over the images held out."""
    layers: tuple[str, ...]
    """Convolutions in 8 bits; the others are in 32-bit floating point."""
    macs_share: float
    """Share of the multiply-accumulates (true MACs) that these layers have."""
    channel_means: dict[str, tuple[float, ...]]
    """By tensor of the fp32 graph, the mean of each channel on the calibration images."""
    ranges: dict[str, Ranges]
    """Ranges by graph."""


@dataclass(frozen=True)
class ModelFile:
    """One ONNX file of a bundle."""

    file: str
    """Plain name inside the bundle's directory."""
    graph: str
    """A precision, or its dialect for a kind of backend; one of `GRAPH_NAMES`."""
    sha256: str
    input: TensorSpec
    output: TensorSpec
    value_range: tuple[float, float]
    """Range of input and output values; black and white of the 8-bit scale."""
    minimum_size: tuple[int, int]
    """Smallest height and width of the input."""
    halo: int
    """Input pixels around an output pixel's own that can change it (pooling aside)."""
    pooled: str | None
    """The tensor that is a mean over the whole input, on which every output pixel depends."""
    parity: Parity | None
    """None if the graph was not compared."""

    @property
    def precision(self) -> str:
        """The precision that the graph computes in."""
        return next(name for name, graphs in GRAPHS.items() if self.graph in graphs)


def why_failed(parity: Parity | None) -> str | None:
    """Return why a graph with this comparison is not known to be good; None if it passed."""
    if parity is None:
        return "it was not compared with PyTorch"
    failed = [gate for gate in parity.gates if not gate.value <= gate.limit]
    if failed:
        return ", ".join(f"{g.name} is {g.value:.3g}, allowed {g.limit:g}" for g in failed)
    if not (parity.passed and parity.gates):
        return "it failed the comparison with PyTorch"
    return None


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`."""

    schema: int
    scale: int
    configuration: dict[str, int | str]
    parameters: int
    macs_paper: int
    """Multiply-accumulates in the paper's convention (1080×720 HR, biases counted)."""
    macs_true: int
    """Multiply-accumulates computed for the weights (1280×720 HR)."""
    checkpoint_sha256: str
    tools: dict[str, str]
    """Versions of the packages that made the bundle."""
    quantization: Quantization | None
    """Parameters of the INT8 graphs; None if there are none."""
    files: tuple[ModelFile, ...]
    derived: dict[str, Parity]
    """Comparisons of the graphs derived from the files on loading, by name in `DERIVED`."""

    @property
    def weights(self) -> str:
        """The first digits of the checkpoint's hash, which tables of quality name."""
        return self.checkpoint_sha256[:12]

    def to_json(self) -> str:
        """Return the text of `manifest.json`, with lists of numbers or names on one line."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        return re.sub(r"\[\n[^][{}]*\]", lambda found: re.sub(r"\n *", "", found[0]), text)
