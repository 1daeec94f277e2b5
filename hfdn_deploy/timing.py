"""Measuring: candidates interleaved round by round, every sample kept, no outlier dropped."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm


@dataclass(frozen=True)
class Measurement:
    """The samples of one candidate, in seconds, in the order taken."""

    samples: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """The given percentile in seconds; 50 is the median."""
        return float(np.percentile(self.samples, percent))

    def __str__(self) -> str:
        """Median and the middle half, in milliseconds."""
        low, middle, high = (1000 * self.percentile(p) for p in (25, 50, 75))
        return f"{middle:.1f} ms ({low:.1f}–{high:.1f})"


def measure(
    candidates: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, Measurement]:
    """Time each candidate `rounds` times, taking turns so that drift hits all alike.

    Args:
        candidates: what to run, by name.
        rounds: timed runs of each.
        warmup: untimed runs of each before.
    """
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in tqdm(range(-warmup, rounds), unit="round", disable=None, leave=False):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            if turn >= 0:
                samples[name].append(time.perf_counter() - start)
    return {name: Measurement(tuple(values)) for name, values in samples.items()}
