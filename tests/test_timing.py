from hfdn_deploy.timing import Measurement, measure


def test_candidates_take_turns_and_every_sample_is_kept():
    calls = []
    result = measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 5, warmup=1)
    assert calls == ["a", "b"] * 6
    assert [len(m.samples) for m in result.values()] == [5, 5]
    assert all(sample >= 0 for m in result.values() for sample in m.samples)


def test_percentiles():
    measurement = Measurement((0.004, 0.001, 0.002, 0.003, 0.1))
    assert measurement.percentile(50) == 0.003
    assert str(measurement) == "3.0 ms (2.0–4.0)"
