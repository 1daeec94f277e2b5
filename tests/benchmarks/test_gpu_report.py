"""The GPU report, simulated: its contents, and that it continues after a failure."""

import json
from argparse import Namespace

import onnx
import pytest

from benchmarks import gpu
from benchmarks.ceilings import Ceilings, Layer, layers_of
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.errors import BackendError


def test_what_fails_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    def fail(where):
        raise BackendError("no product on purpose", "try another")

    types = {name: gpu.TYPES[name] for name in ("fp32", "bf16")}
    monkeypatch.setattr(gpu, "TYPES", types)
    monkeypatch.setattr(gpu, "ceilings", fail)
    gpu.main(Namespace(output=tmp_path / "out", rounds=1, simulate=True))
    text = (tmp_path / "out" / "report.md").read_text()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert text.startswith("# HFDN on a simulated GPU")
    assert text.count("Failed: ") == text.count("Failed: no product on purpose; try another") == 1
    ways = {f"{way} {precision} 16x9" for way in ("eager", "torch-cuda") for precision in types}
    assert set(results["x2 in PyTorch"]) == ways
    assert "| eager | fp32 | 16×9 |" in text
    rows = results["x2 on the backends"]["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16", "int8"]


def test_the_ceilings_are_of_every_precision():
    found = gpu.ceilings(gpu.Bench("cpu", (), 1))
    assert set(found.rates) == {"fp32", "fp16", "bf16", "int8"}
    assert 1e8 < min(found.rates.values()) <= max(found.rates.values()) < 1e15
    assert 1e8 < found.bandwidth < 1e13


def test_the_roofline_is_bound_by_what_is_scarce():
    model = onnx.load_model_from_string(pretrained(4).read_model("fp32"))
    macs = pretrained(4).manifest.macs_true
    size = 320, 180
    layers = layers_of(model, size)

    def roofline(rate, bandwidth, precision="fp16"):
        return Ceilings({precision: rate}, bandwidth).roofline(layers, precision)

    fast = roofline(1e12, 1e30)
    assert fast == pytest.approx(macs / 1e12, rel=1e-6)
    by_memory = roofline(1e30, 1e10)
    assert roofline(1e30, 1e10, "fp32") == pytest.approx(2 * by_memory)
    both = roofline(1e12, 1e10)
    assert max(fast, by_memory) < both < fast + by_memory


def test_shares_are_of_what_the_device_reaches():
    layers = [Layer(macs=600, numbers=10), Layer(macs=100, numbers=40)]
    ceilings = Ceilings({"fp16": 1000}, bandwidth=100)
    # 0.6 s of products and 0.2 s of copies, then 0.1 and 0.8: at least 1.4 s.
    assert ceilings.cells(layers, "fp16", 2.8) == ["25%", "36%", "2.00"]
