from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks import latency
from benchmarks.latency import Latencies, Latency
from benchmarks.peers import PEERS
from benchmarks.record import recorded
from benchmarks.report import Section, page
from hfdn_deploy.bench import PIXELS
from hfdn_deploy.bundle import pretrained

NAMES = ("IDN", "IMDN")


@pytest.fixture(scope="module")
def found():
    peers = [peer for peer in PEERS if peer.name in NAMES]
    # Compiling C++ would take half a minute.
    no_compiler = RuntimeError("no C++ compiler")
    with patch("benchmarks.latency.compiled_by_pytorch", side_effect=no_compiler):
        return latency.run(4, (24, 20), peers, rounds=1)


@pytest.mark.slow
def test_hfdn_and_peers_are_measured_on_one_engine(found):
    same = latency.comparable(found)
    assert [row.network for row in same] == ["HFDN", "IDN", "IMDN"]
    assert {(row.backend, row.precision) for row in found.rows} >= {
        ("torch", "fp32"), ("onnxruntime", "int8"), ("openvino", "int8"), ("openvino", "fp32"),
    }  # fmt: skip
    hfdn = same[0]
    assert hfdn.macs == round(pretrained(4).manifest.macs_true * 96 * 80 / PIXELS)
    # 40.9G published at 1280×720.
    assert same[2].macs == pytest.approx(40.9e9 * 96 * 80 / PIXELS, rel=0.01)
    assert all(len(row.samples) == 1 and row.samples[0] > 0 for row in found.rows)


def test_rows_are_sorted_and_ranks_are_told():
    rows = [
        Latency(name, "onnxruntime", "fp32", 1000 * parameters, macs, None, (seconds,))
        for name, parameters, macs, seconds in (
            ("small", 1, 10**9, 0.3),
            ("middle", 3, 2 * 10**9, 0.2),
            ("large", 2, 3 * 10**9, 0.1),
        )
    ]
    text = latency.table(Latencies(4, (1, 1), tuple(rows), 1e9, "abc"))
    assert text.index("| large") < text.index("| middle") < text.index("| small")
    assert "is -1.00 with MACs and -0.50 with parameters" in text
    assert "A MAC of small takes 9.0 times as long as one of large" in text


def test_plots_show_every_row(found):
    plots = latency.plots(found)
    labels = {text.get_text() for text in plots["latency_macs"].axes[0].texts}
    assert {"IDN", "IMDN", "HFDN fp32, PyTorch", "HFDN int8, OpenVINO"} <= labels
    # HFDN's points are filled and stand at what the shipped weights measure; others are hollow.
    filled = {True: set(), False: set()}
    for points in plots["psnr_latency"].axes[0].collections:
        filled[points.get_facecolor().size > 0] |= {y for _, y in points.get_offsets().data}
    assert filled[False] == {float(peer.published.psnr[4]) for peer in PEERS if peer.name in NAMES}
    manifest = pretrained(4).manifest
    assert filled[True] == {
        round(recorded(manifest, "Set5", precision), 2) for precision in ("fp32", "bf16", "int8")
    }
    for figure in plots.values():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())
        assert pixels[..., :3].std() > 5


def test_the_page_needs_no_network():
    table = "| a | b |\n|---|---|\n| 1 <script> | 2 |"
    section = Section("Peers", "python -m benchmarks", table, {"A plot": b"\x89PNG"})
    html = page("today", {"processor": "x", "packages": {"numpy": "2"}}, [section])
    assert "<table>" in html
    assert 'src="data:image/png;base64,iVBORw=="' in html
    assert "<script>" not in html
    assert "http" not in html
    assert "numpy 2" in html
