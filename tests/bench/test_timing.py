import numpy as np
import pytest

from hfdn_deploy.bench import WARMUP, Interval, Measurement, doubt, environment_facts, measure


def test_candidates_take_turns_and_every_sample_is_kept():
    calls = []
    result = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 5)
    assert calls[-10:] == ["a", "b"] * 5
    for name in ("a", "b"):
        assert WARMUP[0] <= calls[:-10].count(name) <= WARMUP[1]
    assert [len(m.samples) for m in result.values()] == [5, 5]
    assert all(sample >= 0 for m in result.values() for sample in m.samples)


def test_rounds_go_on_until_the_time_is_over():
    (found,) = measure({"a": lambda: sum(range(1000))}, rounds=1, seconds=0.05).values()
    assert len(found.samples) > 1


def test_percentiles():
    measurement = Measurement((0.004, 0.001, 0.002, 0.003, 0.1))
    assert measurement.percentile(50) == 0.003
    assert str(measurement) == "3.0 ms (2.0–4.0)"
    assert measurement.throughput() == pytest.approx(5 / 0.11)


def test_the_bootstrap_interval_is_that_of_the_normal_distribution():
    samples = np.random.default_rng(1).normal(1.0, 0.1, 400)
    mean = Measurement(tuple(samples)).mean()
    half = 1.96 * samples.std(ddof=1) / 20
    assert mean.middle == pytest.approx(samples.mean())
    assert mean.low == pytest.approx(mean.middle - half, abs=0.1 * half)
    assert mean.high == pytest.approx(mean.middle + half, abs=0.1 * half)
    assert Measurement((0.5,) * 9).mean() == Interval(0.5, 0.5, 0.5)


def test_ratios_are_taken_round_by_round():
    base = Measurement((1.0, 10.0, 2.0, 4.0))
    half = Measurement((0.5, 5.0, 1.0, 2.0))
    assert half.ratio(base) == Interval(0.5, 0.5, 0.5)
    assert doubt("it", half.ratio(base)) is None
    open_ = Measurement((0.5, 20.0, 1.0, 8.0)).ratio(base)
    assert "too wide to tell which is faster" in doubt("it", open_)
    assert doubt("itself", base.ratio(base)) is None


def test_the_environment_says_what_decides_the_kernels():
    facts = environment_facts()
    assert facts["cores"] >= 1
    assert facts["processor"]
    assert facts["packages"]["numpy"] == np.__version__
    assert set(facts) >= {"flags", "threads", "governor", "load", "gpu"}
