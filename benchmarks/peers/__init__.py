"""Networks that HFDN is compared with: those of its paper's table, and later lightweight ones.

Each is our own PyTorch definition, written from the papers and the authors' public descriptions,
with random weights, because only costs are compared. All take the low-resolution image; networks
that work on an upscaled image upscale it themselves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import onnx
import torch
from torch import nn
from torch.nn.utils import parametrize

from benchmarks import paper
from benchmarks.peers.awsrn import AWSRN
from benchmarks.peers.drrn import DRRN
from benchmarks.peers.idn import IDN
from benchmarks.peers.imdn import IMDN
from benchmarks.peers.lcsc import LCSCNet
from benchmarks.peers.memnet import MemNet
from benchmarks.peers.rfdn import RFDN
from benchmarks.peers.rlfn import RLFN
from benchmarks.peers.safmn import SAFMN
from benchmarks.peers.tscn import TSCN
from benchmarks.peers.vdsr import VDSR
from export.tracing import module_to_onnx

ByScale = Mapping[int, str]

SEED = 0


@dataclass(frozen=True)
class Published:
    """Published figures by scale, as printed; uncertain figures are left out."""

    parameters: ByScale
    """Thousands."""
    macs: ByScale
    """Billions, for an HR image of 1280×720."""
    psnr: ByScale
    """On Set5, luma, in dB."""
    source: str
    """Publication of the figures."""


@dataclass(frozen=True)
class Peer:
    """A network that HFDN is compared with."""

    name: str
    build: Callable[[int], nn.Module]
    """Builds the network for a scale, as it is trained."""
    channels: int
    """1 (luma) or 3 (RGB), in and out."""
    upscaled_input: bool
    """Whether it works on the bicubic-upscaled image, at full size."""
    published: Published
    note: str = ""
    """Differences from the published network, and doubtful figures."""
    minimum_size: int = 1
    """Smallest height and width of the low-resolution image."""
    scales: tuple[int, ...] = (2, 3, 4)


@dataclass(frozen=True)
class Missing:
    """A network of the paper's table that cannot be reimplemented."""

    name: str
    published: Published
    reason: str


def same(figure: str) -> ByScale:
    """Return one figure for every scale."""
    return dict.fromkeys((2, 3, 4), figure)


def in_paper(method: str) -> Published:
    """Return the figures that HFDN's paper prints of a method."""
    rows = [row for row in paper.published() if row.method == method]
    return Published(
        {row.scale: row.parameters.removesuffix("k") for row in rows},
        {row.scale: row.maccs.removesuffix("G") for row in rows},
        {row.scale: row.scores["Set5"][0] for row in rows},
        HFDN,
    )


HFDN = "the paper of HFDN"
ASSLN = "Zhang et al., Aligned Structured Sparsity Learning (NeurIPS 2021), tables 2 to 4"

PEERS = (
    Peer("VDSR", VDSR, 1, True, Published(
        same("665"), same("612.6"), {2: "37.53", 3: "33.66", 4: "31.35"}, ASSLN)),
    Peer("DRRN", DRRN, 1, True, Published(
        same("297"), same("6796.9"), {2: "37.74", 3: "34.03", 4: "31.68"}, ASSLN)),
    Peer("MemNet", MemNet, 1, True, Published(
        same("677"), same("2662.4"), {2: "37.78", 3: "34.09", 4: "31.74"}, ASSLN),
        note="the published MACs count one reconstruction instead of all six"),
    Peer("IDN", IDN, 1, False, Published(
        {4: "553"}, {4: "32.3"}, {2: "37.83", 3: "34.11", 4: "31.82"},
        "authors' repository github.com/Zheng222/IDN-tensorflow; parameters and MACs: "
        "github.com/Aitical/CFSR"),
        note="sources disagree on the parameters: a later comparison prints 678K"),
    Peer("TSCN", TSCN, 1, False, in_paper("TSCN"),
        note="layers as in the authors' Caffe files; the published MACs are fewer"),
    Peer("LCSC", LCSCNet, 1, False, in_paper("LCSC_76_291"),
        note="structure from the authors' 76-layer test code; width and ratios, which that code "
        "reads from binary files, from their training script; 0.3 % more parameters than "
        "published"),
    Peer("AWSRN-S", AWSRN, 3, False, in_paper("AWSRN-S"),
        note="the parameters include the scales of weight normalisation, which are folded for "
        "inference; at ×3 and ×4, 0.2 % fewer parameters than published"),
    Peer("IMDN", IMDN, 3, False, Published(
        {2: "694", 3: "703", 4: "715"}, {2: "158.8", 3: "71.5", 4: "40.9"},
        {2: "38.00", 3: "34.36", 4: "32.21"}, ASSLN)),
    Peer("RFDN", RFDN, 3, False, Published(
        {2: "534", 3: "541", 4: "550"}, {4: "23.9"},
        {2: "38.05", 3: "34.41", 4: "32.24"}, "Liu et al., arXiv 2009.11551, table 3; "
        "MACs: github.com/Aitical/CFSR"),
        note="attention as in IMDN, but narrowed to a quarter, and a sum around each block, "
        "according to issues 3 and 5 of github.com/njulj/RFDN; the published MACs are close to "
        "E-RFDN's"),
    Peer("E-RFDN", partial(RFDN, width=50, blocks=4, enhanced=True), 3, False, Published(
        {4: "433"}, {}, {}, "baseline of the NTIRE 2022 efficient super-resolution challenge"),
        note="the network of the authors' code, which won AIM 2020",
        minimum_size=15, scales=(4,)),
    Peer("RLFN", RLFN, 3, False, Published(
        {2: "527", 4: "543"}, {}, {2: "38.07", 4: "32.24"},
        "Kong et al., arXiv 2205.07514, table 1"),
        note="no MACs at this size were found; the authors of SAFMN count 1075.69G for a "
        "1920×1080 image (×4), a 36th of which is 29.9G",
        minimum_size=15),
    Peer("SAFMN", SAFMN, 3, False, Published(
        {2: "227.82", 3: "232.69", 4: "239.52"}, {2: "51.53", 3: "23.42", 4: "13.56"},
        {}, "first README of the authors' repository github.com/sunny2109/SAFMN"),
        note="pooling by integer factors, which equals the published pooling if height and width "
        "are multiples of 8",
        minimum_size=8),
)  # fmt: skip

MISSING = (
    Missing(
        "MoreMNAS-A",
        in_paper("MoreMNAS-A"),
        "the architecture, found by a search, is published as a drawing of cells and a frozen "
        "graph, not as a list of layers",
    ),
)


def network(peer: Peer, scale: int) -> nn.Module:
    """Return the network of a peer, with random weights from a fixed seed."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        return peer.build(scale).eval().requires_grad_(False)


def graph(peer: Peer, scale: int) -> onnx.ModelProto:
    """Return the fp32 graph of a peer, dynamic in batch, height and width."""
    folded = network(peer, scale)
    for module in folded.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return module_to_onnx(folded, peer.channels)
