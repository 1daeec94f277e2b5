import json
from dataclasses import replace

import numpy as np
import pytest

from hfdn_deploy.bench import (
    MACS,
    PEAK,
    SCENARIOS,
    SIDE,
    BenchResult,
    BenchRow,
    Candidate,
    degrade,
    format_table,
    load_original,
    luma8,
    make_pair,
    plan,
    products,
    read_result,
    regressions,
    run,
)
from hfdn_deploy.cli import main
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import write_image
from hfdn_deploy.options import ModelOptions
from tests.helpers.commands import misused


def row(precision, seconds):
    times = tuple(seconds * x for x in (1.0, 1.02, 0.99, 1.01))
    return BenchRow(
        "x4", "onnxruntime", precision, (320, 180), "", times, None, times, 0.01, 2**28, 10**10
    )


@pytest.fixture
def result():
    rows = (row("fp32", 2.0), row("int8", 0.5))
    limits = {"fp32 onnxruntime": (0.1,), "int8 openvino": (0.04,), "int8 onnxruntime": (0.05,)}
    facts = {"processor": "a processor", "cores": 2}
    return BenchResult(1, facts, None, limits, 10**10, rows)


def test_the_format_table(result):
    text = format_table(result)
    assert "| x4 | onnxruntime | int8 | 320×180 | 502.5 ms (498.8–506.2) | - |" in text
    assert "| 0.25 (0.25–0.25) | +0.010 dB | 256 MiB | 8 % |" in text
    assert "limit in int8: 250 GMAC/s, a product of openvino" in text
    nothing = replace(result, rows=(replace(result.rows[0], psnr_cost_db=-1e-9),))
    assert "| +0.000 dB |" in format_table(nothing)
    assert "too wide" not in text
    options = {"ensemble": True, "tile": 64}
    ensemble = replace(result, environment={**result.environment, "options": options})
    assert "median (middle half); ensemble True; tile 64\n" in format_table(ensemble)


def test_the_tail_of_the_latency(result):
    """As numpy has the percentiles of 2, 2.04, 1.98 and 2.02 s; four runs took 8.04 s."""
    cells = "0.50 images/s | 2010.0 | 2010.0 | 2034.0 | 2037.0 | 2039.4 | 1980.0 | 2040.0 |"
    text = format_table(result)
    assert "| throughput | mean | p50 | p90 | p95 | p99 | min | max |" in text
    assert f"| x4 | onnxruntime | fp32 | 320×180 | {cells}" in text
    faster = replace(result.rows[0], with_transfers=tuple(x / 2 for x in result.rows[0].end_to_end))
    assert "| 1.00 images/s | 1005.0 |" in format_table(replace(result, rows=(faster,)))


def test_a_row_that_may_be_as_fast_as_the_first_says_so(result):
    noisy = replace(result.rows[1], inference=(1.0, 4.0, 1.0, 4.0))
    text = format_table(replace(result, rows=(result.rows[0], noisy)))
    assert "too wide to tell which is faster" in text


def test_a_result_compared_with_itself_and_with_one_twice_as_fast(tmp_path, capsys, result):
    file, fast = tmp_path / "new.json", tmp_path / "old.json"
    file.write_text(json.dumps(result.to_json()))
    assert read_result(file) == result
    quick = replace(result.rows[1], inference=tuple(x / 2 for x in result.rows[1].inference))
    fast.write_text(json.dumps(replace(result, rows=(result.rows[0], quick)).to_json()))
    assert main(["bench", str(file), "--compare", str(file)]) == 0
    assert "no row is slower" in capsys.readouterr().out
    assert main(["bench", str(file), "--compare", str(fast)]) == 3
    assert "x4, onnxruntime, int8, 320×180 took 2.00 times" in capsys.readouterr().err
    assert regressions(read_result(fast), result) == []


def test_runs_with_other_options_are_not_compared(result):
    options = {"ensemble": True, "tile": 16}
    other = replace(result, environment={**result.environment, "options": options})
    assert regressions(other, other) == []
    with pytest.raises(InputError, match=r"different options .*'tile': 16.* and none"):
        regressions(other, result)
    text = format_table(other)
    assert "; ensemble True; tile 16" in text
    assert "the other columns are for one pass" in text
    assert "one pass" not in format_table(result)


@pytest.mark.parametrize("option", ["--rounds=0", "--rounds=-1", "--seconds=nan", "--seconds=-1"])
def test_measuring_nothing_or_for_ever_is_refused(capsys, option):
    assert "is not a " in misused(capsys, ["bench", "x2", "--size", "8x8", option])


@pytest.mark.parametrize("text", ["{}", "[", '{"schema": 1}'])
def test_what_is_no_result_is_refused(tmp_path, capsys, text):
    (tmp_path / "x.json").write_text(text)
    assert main(["bench", str(tmp_path / "x.json")]) == 2
    assert "name a JSON file from this version of `hfdn bench`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "1000000x1000000"], "for an input of 1000000×1000000, but only "),
        (["--image", "missing.png"], "missing.png cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_refused(capsys, caplog, arguments, words):
    caplog.set_level("INFO")
    command = ["bench", "x4", "--backends", "onnxruntime", "--precisions", "fp32"]
    assert main([*command, *arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert not printed.out
    assert ("backend:" in caplog.text) == ("--size" in arguments)  # else none was opened


def test_each_reason_is_told_once(capsys, caplog):
    command = ["bench", "x4", "--backends", "torch", "--precisions", "fp32", "int8"]
    assert main([*command, "--size", "24x24"]) == 4
    told = "nothing can be measured here; left out torch in int8: not torch: it runs checkpoints"
    assert told in capsys.readouterr().err
    assert "left out torch in fp32" in caplog.text
    assert "int8" not in caplog.text


def test_an_image_of_one_pixel_costs_nothing(tmp_path, capsys, monkeypatch):
    for name, result in (("products", {}), ("_peak", None)):  # which take their time
        monkeypatch.setattr(f"hfdn_deploy.bench.suite.{name}", lambda *_, result=result: result)
    write_image(tmp_path / "a.png", np.full((1, 1, 3), 77, np.uint8))
    command = ["bench", "x2", "--backends", "onnxruntime", "--precisions", "fp32"]
    command += ["--size", "8x8", "--rounds", "1", "--seconds", "0"]
    command += ["--image", str(tmp_path / "a.png"), "--json", str(tmp_path / "b.json")]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert f"every sample: {tmp_path / 'b.json'}" in printed
    assert [row.psnr_cost_db for row in read_result(tmp_path / "b.json").rows] == [0]


def test_the_plan(bundle, tmp_path):
    cases = plan([str(bundle)], ["onnxruntime", "openvino"], ["fp32", "int8"])
    assert [(c.precision, c.backend) for c in cases] == [
        ("fp32", "onnxruntime"), ("fp32", "openvino"), ("int8", "onnxruntime"), ("int8", "openvino")
    ]  # fmt: skip
    (case,) = plan([str(bundle / "fp32.onnx")], ["onnxruntime"], ["int8"])
    options = ModelOptions(model=str(bundle), backend="onnxruntime", precision="fp32")
    assert case == Candidate(str(bundle / "fp32.onnx"), options)
    asked = ModelOptions(ensemble=True, tile=64, max_memory=2**30, allow_ungated=True, trust=True)
    for case in plan([str(bundle)], ["openvino"], ["int8"], asked):
        options = replace(asked, model=str(bundle), backend="openvino", precision="int8")
        assert case == Candidate(str(bundle), options)
    with pytest.raises(InputError, match="is not in a bundle"):
        plan([str(tmp_path / "x.onnx")], ["onnxruntime"], ["fp32"])


def test_pictures_are_photographs_of_the_size_asked_for(tmp_path, photo):
    picture = make_pair(load_original(None), (320, 180), 4)
    assert picture.original.shape == (720, 1280)
    assert picture.luma.shape == (180, 320)
    assert picture.image.shape == (180, 320, 3)
    expected = degrade(picture.original, 4) / PEAK
    np.testing.assert_allclose(picture.luma, np.clip(expected, 0, 1), atol=1e-6)
    assert picture.original[:360].std() > 30
    write_image(tmp_path / "grey.png", photo[..., 0])
    grey = load_original(tmp_path / "grey.png")
    expected = luma8(np.dstack([grey] * 3)[:40, :60])
    assert (make_pair(grey, (15, 10), 4).original == expected).all()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_products_are_of_the_size_that_is_counted(precision):
    assert MACS == SIDE**3
    for run_product in products(precision).values():
        (y,) = run_product() if isinstance(run_product(), list) else run_product().values()
        assert y.shape == (SIDE, SIDE)
        assert np.ptp(y) > 0


@pytest.mark.slow
def test_a_bench_from_end_to_end(monkeypatch):
    monkeypatch.setattr("hfdn_deploy.bench.suite.products", lambda precision: {})
    cases = plan(["x4"], ["onnxruntime", "openvino"], ["fp32", "int8"])
    result = run(cases, [(24, 16)], load_original(None), rounds=2, seconds=0)
    assert [len(r.inference) for r in result.rows] == [2] * 4
    assert [len(r.end_to_end) for r in result.rows] == [2] * 4
    assert result.rows[0].psnr_cost_db == 0
    assert all(abs(r.psnr_cost_db) < 0.3 for r in result.rows)
    assert result.rows[2].psnr_cost_db != 0
    assert result.rows[1].macs == round(115_640_526_336 * 24 * 16 / (320 * 180))
    assert all(50 < r.peak_bytes / 2**20 < 2000 for r in result.rows)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_loadgen_runs_a_scenario_and_leaves_its_log(tmp_path, capsys, scenario):
    log = tmp_path / "log"
    options = ["--backends", "onnxruntime", "--precisions", "int8", "--size", "16x12"]
    rules = ["--scenario", scenario, "--seconds", "0.2", "--log", str(log)]
    assert main(["bench", "x4", *options, *rules]) == 0
    assert f"Scenario : {SCENARIOS[scenario]}" in capsys.readouterr().out
    assert (log / "onnxruntime-int8-16x12" / "mlperf_log_detail.txt").exists()
