from dataclasses import dataclass

import pytest

from hfdn_deploy.bundle import from_json


@dataclass(frozen=True)
class Inner:
    x: float | None


@dataclass(frozen=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    pair: tuple[int, bool]
    table: dict[str, int | str]


GOOD = {"name": "a", "inner": [{"x": 1}, {"x": None}], "pair": [3, True], "table": {"k": 1}}


def test_good():
    assert from_json(Outer, GOOD) == Outer("a", (Inner(1.0), Inner(None)), (3, True), {"k": 1})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": 3}, "name is 3"),
        ({"more": 3}, "more is unknown"),
        ({"inner": [{"x": "1"}]}, r"inner\[0\].x is '1'"),
        ({"inner": [{}]}, r"inner\[0\].x is missing"),
        ({"inner": [{"x": float("nan")}]}, r"inner\[0\].x is nan"),
        ({"inner": {"x": 1}}, "inner is"),
        ({"pair": [1]}, "pair is"),
        ({"pair": [True, True]}, r"pair\[0\] is True"),
        ({"table": {"k": None}}, "table.k is None"),
    ],
)
def test_bad_says_where(change, where):
    with pytest.raises(ValueError, match=where):
        from_json(Outer, {**GOOD, **change})


def test_not_a_mapping():
    with pytest.raises(ValueError, match="the document is 3"):
        from_json(Outer, 3)
