"""Timing: candidates take turns round by round; every sample is kept, outliers included."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from hfdn_deploy.upscaler import Upscaler

CONFIDENCE = 0.95
# Enough images of one size to make preparing for them pay.
_STREAM = 1_000_000
RESAMPLES = 2000
# A candidate is warm when its last run differs from the one before by no more than this share.
STABLE = 0.05
WARMUP = 2, 10
"""Least and most warm-up runs of each candidate."""


@dataclass(frozen=True)
class Interval:
    """A value and the range around it."""

    low: float
    middle: float
    high: float

    def __format__(self, spec: str) -> str:
        return f"{self.middle:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


@dataclass(frozen=True)
class Measurement:
    """The samples of one candidate, in seconds, in order."""

    samples: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Return a percentile in seconds; 50 is the median."""
        return float(np.percentile(self.samples, percent))

    def mean(self) -> Interval:
        """Return the mean in seconds, with its 95 % confidence interval.

        The interval is that of the percentile bootstrap (B. Efron, "Bootstrap methods: another
        look at the jackknife", 1979), with a fixed random seed.
        """
        samples = np.array(self.samples)
        drawn = np.random.default_rng(0).integers(len(samples), size=(RESAMPLES, len(samples)))
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(samples[drawn].mean(1), [tail, 100 - tail])
        return Interval(float(low), float(samples.mean()), float(high))

    def throughput(self) -> float:
        """Return the runs per second, one after the other."""
        return len(self.samples) / sum(self.samples)

    def ratios(self, base: "Measurement") -> NDArray[np.float64]:
        """Return the time of each round relative to the same round of `base`."""
        return np.asarray(np.array(self.samples) / np.array(base.samples), np.float64)

    def ratio(self, base: "Measurement") -> Interval:
        """Return the median of `ratios`, with their middle half."""
        low, middle, high = np.percentile(self.ratios(base), [25, 50, 75])
        return Interval(float(low), float(middle), float(high))

    def __str__(self) -> str:
        """Return the median and the middle half, in milliseconds."""
        low, middle, high = (1000 * self.percentile(p) for p in (25, 50, 75))
        return f"{middle:.1f} ms ({low:.1f}–{high:.1f})"


def doubt(name: str, ratio: Interval) -> str | None:
    """Return a sentence if a ratio's middle half includes 1, so that neither is faster."""
    if ratio.low == ratio.high or not ratio.low <= 1 <= ratio.high:
        return None
    return (
        f"{name} took {ratio:.2f} of the first row's time: the spread is too wide to tell which "
        "is faster; measure longer, or on an idle machine."
    )


def measure(
    candidates: Mapping[str, Callable[[], object]], rounds: int, seconds: float = 0.0
) -> dict[str, Measurement]:
    """Time the candidates in turns, so that drift affects all of them, after a warm-up.

    Args:
        candidates: functions by name, which return when their run has ended.
        rounds: least number of timed runs of each candidate.
        seconds: least time of all timed rounds together.
    """
    for run in candidates.values():
        _warm_up(run)
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    shown = logging.getLogger("hfdn_deploy").isEnabledFor(logging.WARNING)  # not with --quiet
    for turn in tqdm(count(), unit="round", disable=None if shown else True, leave=False):
        if turn >= rounds and time.perf_counter() >= end:
            break
        for name, run in candidates.items():
            samples[name].append(_time(run))
    return {name: Measurement(tuple(values)) for name, values in samples.items()}


def prepare(up: Upscaler, shape: tuple[int, ...]) -> None:
    """Prepare a backend for many images of one shape, one at a time; see `plan_many`."""
    up.plan_many(shape, np.uint8, _STREAM, threads=1)


def _warm_up(run: Callable[[], object]) -> None:
    least, most = WARMUP
    last = _time(run)
    for turn in range(2, most + 1):
        before, last = last, _time(run)
        if turn >= least and abs(last / max(before, 1e-9) - 1) <= STABLE:
            return


def _time(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
