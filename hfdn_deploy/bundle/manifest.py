"""What a bundle's `manifest.json` says, as frozen dataclasses."""

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from hfdn_deploy.errors import BackendError

if TYPE_CHECKING:
    import onnx

MANIFEST = "manifest.json"
SCHEMA = 7

# The graphs that each precision needs: backends on a CPU want a dialect of their own for INT8.
GRAPHS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8", "int8-cpu")}
GRAPH_NAMES = tuple(name for names in GRAPHS.values() for name in names)
# What OpenVINO computes that is no file of its own, and the graph that it is derived from when
# that is loaded: fp32 in shorter numbers, int8-cpu without the pairs that it has no use for, and
# that with shorter weights, for CPUs where sums of two 8-bit products saturate, or with bf16 around
# the integers.
DERIVED = {
    "bf16": "fp32",
    "int8-openvino": "int8-cpu",
    "int8-openvino-7bit": "int8-cpu",
    "int8-openvino-bf16": "int8-cpu",
}
PRECISIONS = (*GRAPHS, "bf16")


def graph_for(precision: str, dialect: str) -> str:
    """Return the graph that runs a precision.

    Args:
        precision: one of `PRECISIONS`.
        dialect: for which backends: "cpu" (ONNX Runtime's), "openvino" or "cuda".

    Raises:
        BackendError: the precision is bf16, which ONNX Runtime and TensorRT have not.
    """
    if precision == "bf16" and dialect != "openvino":
        raise BackendError("bf16 runs on openvino and torch-cuda alone", "ask for one, or for fp32")
    return f"int8-{dialect}" if precision == "int8" and dialect != "cuda" else precision


def is_scale(name: str) -> bool:
    """Whether a name is "x4" or the like, which stands for a bundle of the package."""
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
        import onnx  # not above: the command line reads `PRECISIONS` before it needs a graph

        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        return cls(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))

    def sized(self, number: int, height: int, width: int) -> tuple[int, ...]:
        """Its shape where the sizes that may vary are these; channels never do."""
        planes = isinstance(self.shape[1], int)
        wanted = (number, 0, height, width) if planes else (number, height, width, 0)
        sizes = zip(self.shape, wanted, strict=True)
        return tuple(fixed if isinstance(fixed, int) else size for fixed, size in sizes)


@dataclass(frozen=True)
class ParityCase:
    """How far one output lies from the PyTorch reference."""

    name: str
    shape: tuple[int, ...]
    """Shape of the input, (N, 1, H, W)."""
    max_abs: float
    """Largest absolute difference, on the scale 0..1."""
    mean_abs: float
    psnr_db: float | None
    """PSNR between the two outputs in luma levels (peak 255); None where they are equal."""


@dataclass(frozen=True)
class KindParity:
    """How far a graph departs from the PyTorch reference on one kind of image, in levels of 255."""

    kind: str
    """One of `export.kinds.KINDS`, or "downscaled photographs"."""
    images: int
    rms_levels: float
    """Root mean square of the difference, of the image where it is largest."""
    max_levels: float
    """Largest difference of a pixel."""
    beyond: dict[str, float]
    """Share of all pixels that differ by more than so many levels."""
    banding_levels: float
    """Largest change of the difference from a pixel to its neighbour."""
    original_db: tuple[float, float] | None
    """Mean PSNR of the reference and of the graph against the originals; None without originals."""


@dataclass(frozen=True)
class Gate:
    """A figure that had to stay within a limit."""

    name: str
    value: float
    limit: float


@dataclass(frozen=True)
class Parity:
    """The comparison with the PyTorch reference that let a file into its bundle."""

    passed: bool
    gates: tuple[Gate, ...]
    """What the graph was held to; `export.parity.GATES` says what each means."""
    photographs_sha256: str
    """Hash of the originals that PSNR was measured on."""
    worst: ParityCase
    cases: tuple[ParityCase, ...]
    kinds: tuple[KindParity, ...]


@dataclass(frozen=True)
class Ranges:
    """How an INT8 graph quantises the tensors of the fp32 graph."""

    channel_scales: dict[str, tuple[float, ...]]
    """By learned convolution, what its output channels are multiplied by before quantisation."""
    limits: dict[str, tuple[float, float]]
    """By tensor of the graph so scaled, the lowest and highest value; what lies beyond is clipped.

    Scales and zero points follow from these."""


@dataclass(frozen=True)
class Quantization:
    """How the INT8 graphs were made; with this they can be made again without images."""

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
    """By graph."""


@dataclass(frozen=True)
class ModelFile:
    """One ONNX file of a bundle."""

    file: str
    """Plain name inside the bundle's directory."""
    graph: str
    """A precision, or its dialect for a kind of backend; a value of `GRAPHS`."""
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
    """None if nobody has compared it."""

    @property
    def precision(self) -> str:
        """What the graph computes in."""
        return next(name for name, graphs in GRAPHS.items() if self.graph in graphs)


def why_failed(parity: Parity | None) -> str | None:
    """Why a graph with this comparison is not known to be good; None if it passed its gates."""
    if parity is None:
        return "nobody compared it with PyTorch"
    failed = [gate for gate in parity.gates if not gate.value <= gate.limit]
    if failed:
        return ", ".join(f"{g.name} is {g.value:.3g}, allowed {g.limit:g}" for g in failed)
    if not (parity.passed and parity.gates):
        return "it failed the comparison with PyTorch"
    return None


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says of a bundle."""

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
    """Versions of what made the bundle."""
    quantization: Quantization | None
    """Of the INT8 graphs, if there are any."""
    files: tuple[ModelFile, ...]
    derived: dict[str, Parity]
    """How good what is derived from the files when they are loaded is, by name in `DERIVED`."""

    def to_json(self) -> str:
        """The text of `manifest.json`; a list of numbers or names is one line of it."""
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"
        return re.sub(r"\[\n[^][{}]*\]", lambda found: re.sub(r"\n *", "", found[0]), text)
