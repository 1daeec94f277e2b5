import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from benchmarks import complexity
from benchmarks.cli import main
from benchmarks.complexity import block_of, bundle_rows, check, peer_table
from benchmarks.costs import Cost, block_costs, cost, peak_activation_bytes
from benchmarks.peers import PEERS
from benchmarks.peers.counts import peer_row, reproduced_by
from hfdn_deploy.errors import GateError
from hfdn_deploy.graph import tiny_model
from hfdn_deploy.network import count_complexity
from tests.helpers.networks import make_network

PAPER = {2: (760.1e3, 260.7e9), 3: (823e3, 248.21e9), 4: (760.1e3, 178.51e9)}

BY_NAME = {peer.name: peer for peer in PEERS}


@pytest.fixture(scope="module")
def rows():
    return bundle_rows()


def test_bundles_have_the_papers_figures(rows):
    fp32 = {row.scale: row for row in rows if row.graph == "fp32"}
    assert set(fp32) == set(PAPER)
    for scale, row in fp32.items():
        assert row.cost.parameters == pytest.approx(PAPER[scale][0], rel=1e-3)
        assert row.cost.macs_paper == pytest.approx(PAPER[scale][1], rel=1e-3)
        assert row.parameters_apart == pytest.approx(row.cost.parameters / PAPER[scale][0] - 1)
        assert row.macs_apart == pytest.approx(row.cost.macs_paper / PAPER[scale][1] - 1)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_graph_costs_what_the_network_does(rows, scale):
    network = count_complexity(make_network(scale), scale)
    for row in rows:
        if row.scale == scale and row.graph != "int8-cpu":
            # Folding removes 27 adaptive weights and merges three last biases into one.
            assert row.cost.parameters == network.parameters - 29
            assert row.cost.macs_true == network.macs_true
            assert row.cost.macs_paper == network.macs_paper - 2 * 1080 * 720


def test_blocks_add_up_to_the_whole(rows):
    for row in rows:
        for field in ("parameters", "weights", "macs_paper", "macs_true"):
            total = sum(getattr(part, field) for part in row.blocks.values())
            assert total == getattr(row.cost, field)
    blocks = next(row.blocks for row in rows if row.graph == "fp32")
    assert blocks["hfms.1.adu"].parameters == 133_833 - 9
    assert blocks["hfms.2.eu"].parameters == 43_920
    assert blocks["attention.ca"].parameters + blocks["attention.sa"].parameters == 2_033
    assert block_of("hfms.0.adu.convs.1.leakyrelu") == "hfms.0.adu"


def test_half_precision_needs_half_the_memory(rows):
    peaks = {(row.scale, row.graph): row.peak_activation_bytes for row in rows}
    # ×4: a head's 48 channels at full size before and after an activation, and the outputs or
    # inputs of the other heads: 16 features at full size each, or 48 at low resolution.
    assert peaks[4, "fp32"] == pytest.approx(4 * 16 * (48 + 48 + 2 * 16), rel=0.01)
    for scale in (2, 3, 4):
        assert peaks[scale, "fp16"] == pytest.approx(peaks[scale, "fp32"] / 2, rel=0.01)


def tiny_graph():
    """Return a graph: a 3×3 convolution 1→4, a 1×1 used twice, pooling, base, deconvolution ×2."""
    weights = {
        "w0": np.zeros((4, 1, 3, 3), np.float32),
        "w1": np.zeros((4, 4, 1, 1), np.float32),
        "w2": np.zeros((4, 2, 4, 4), np.float32),
        "b": np.zeros(4, np.float32),
        "b2": np.zeros(2, np.float32),
        "base": np.zeros((4, 1, 1, 1), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "w1", "b"], ["c"], "body.0"),
        helper.make_node("Conv", ["c", "w1", "b"], ["d"], "body.1"),
        helper.make_node("GlobalAveragePool", ["d"], ["mean"], "pool"),
        helper.make_node("Add", ["d", "mean"], ["e"], "add"),
        helper.make_node("Add", ["e", "a"], ["f"], "add.2"),
        helper.make_node("Conv", ["x", "base"], ["g"], "base"),
        helper.make_node("Add", ["f", "g"], ["h"], "add.3"),
        helper.make_node(
            "ConvTranspose", ["h", "w2", "b2"], ["y"], "last", strides=[2, 2], pads=[1, 1, 1, 1]
        ),
    ]
    given, result = (np.float32, ["n", 1, "h", "w"]), (np.float32, ["n", 2, "2*h", "2*w"])
    return tiny_model(nodes, {"x": given}, {"y": result}, weights)


def test_costs_of_a_graph_counted_by_hand():
    model = tiny_graph()
    onnx.checker.check_model(model, full_check=True)
    lr, hr = 540 * 360, 1080 * 720
    first, body, last = 36, 16, 128
    weights = first + body + last
    paper = (first + 4 + 2 * (body + 4)) * lr + (last + 2) * hr + 4 * lr
    true = (first + 2 * body + last) * 640 * 360
    # The two convolutions of the body share a weight, but both are computed.
    assert cost(model, 2) == Cost(weights + 4 + 4 + 2, weights, paper, true)
    parts = block_costs(model, 2, lambda name: name.split(".")[0])
    assert parts["body"] == Cost(20, 16, 40 * lr, 32 * 640 * 360)
    assert parts["pool"] == Cost(0, 0, 4 * lr, 0)
    # The peak is at the first addition: x, a, d, e and the four means are live.
    assert peak_activation_bytes(model, 2) == 4 * (1 + 4 + 4 + 4) + 4 * 4 / (640 * 360)


def test_a_figure_is_reproduced_when_rounded_or_cut_off():
    counts = {"low": 664.7, "high": 665.92}
    assert reproduced_by("665", counts) == ["low", "high"]
    assert reproduced_by("664.7", counts) == ["low"]
    assert reproduced_by("667", counts) == []
    assert reproduced_by("667", counts, 2e-3) == ["high"]
    assert reproduced_by(None, counts) is None


def test_a_bundle_apart_from_the_paper_is_an_error(rows):
    check(rows)
    with pytest.raises(GateError, match=r"×4 int8 graph differs by 0\.20%"):
        broken = next(row for row in rows if (row.scale, row.graph) == (4, "int8"))
        check([*rows, replace(broken, macs_apart=-2e-3)])


def test_a_peer_reproduces_its_published_macs():
    row = peer_row(BY_NAME["VDSR"], 3)
    assert row.cost.macs_true == (2 * 9 * 64 + 18 * 9 * 64 * 64) * 1280 * 720
    assert row.macs_reproduced_by == ["true"]
    assert row.macs_apart == pytest.approx(0, abs=1e-4)
    assert row.parameters_reproduced_by == ["all", "weights and biases", "weights"]
    assert "| VDSR | ×3 | upscaled luma | 665,921 | 665K |" in peer_table([row])
    assert "612.6G | true |" in peer_table([row])


@pytest.mark.slow
def test_command_line(monkeypatch, capsys):
    awsrn = replace(BY_NAME["AWSRN-S"], scales=(2,))
    monkeypatch.setattr(complexity, "PEERS", (awsrn,))
    assert main(["complexity", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {(row["scale"], row["graph"]) for row in values["bundles"]} >= {(2, "fp32"), (4, "int8")}
    (peer,) = values["peers"]
    # Counted by hand: head, four units, fusion, four branches and the skip, at 640×360.
    weights = 864 + 4 * 2 * 9 * 32 * 128 + 9 * 128 * 32 + (9 + 25 + 49 + 81) * 32 * 12 + 27 * 12
    assert peer["cost"]["macs_true"] == weights * 640 * 360
    assert peer["macs_reproduced_by"] == ["true"]
    assert peer["macs_apart"] == pytest.approx(0, abs=1e-3)
    assert peer["parameters_reproduced_by"] == ["all", "weights and biases"]
    assert peer["published"] == {
        "parameters": "397", "macs": "91.2", "psnr": "37.75", "source": "the paper of HFDN",
    }  # fmt: skip
    assert [missing["name"] for missing in values["missing"]] == ["MoreMNAS-A"]
    monkeypatch.setattr(complexity, "PEERS", ())
    assert main(["complexity"]) == 0
    printed = capsys.readouterr().out
    assert "| ×4 | fp32 | 760,098 | 760.1k | -0.000% | 178.51G | 178.51G |" in printed
    assert "MoreMNAS-A (published: ×2 1039K parameters" in printed
