"""Results of the benchmark: rows, JSON, tables and comparison."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hfdn_deploy.backends import BACKENDS
from hfdn_deploy.bench.timing import Measurement, doubt
from hfdn_deploy.bundle import read_json
from hfdn_deploy.errors import InputError

SCHEMA = 1
ON_GPU = tuple(spec.name for spec in BACKENDS.values() if spec.device == "gpu")
# A smaller slowdown is not a regression, however quiet both runs were.
LEAST_REGRESSION = 1.05


@dataclass(frozen=True)
class BenchRow:
    """The measurements of a candidate at one size."""

    model: str
    backend: str
    precision: str
    size: tuple[int, int]
    """Width and height of the input."""
    choice: str
    inference: tuple[float, ...] | None
    """Seconds of each run of the backend, with input and output on its device.

    By CUDA events on a GPU; None if the backend has no such clock.
    """
    with_transfers: tuple[float, ...] | None
    """Seconds of each run with copies from and to the host; None on a CPU."""
    end_to_end: tuple[float, ...]
    """Seconds of each run from RGB array to RGB array."""
    psnr_cost_db: float
    """Loss of PSNR compared with fp32 in ONNX Runtime; negative for a gain."""
    peak_bytes: int | None
    """Largest resident size of a process that only loads and runs this candidate.

    None on a GPU, and on systems that do not report it.
    """
    macs: int
    """True multiply-accumulates of one run."""

    @property
    def backend_alone(self) -> Measurement:
        """The backend's latency: inference only, or with transfers if that is not known."""
        return Measurement(self.inference or self.with_transfers or ())

    @property
    def key(self) -> str:
        """The key that rows of two runs must share to be compared."""
        width, height = self.size
        return f"{self.model}, {self.backend}, {self.precision}, {width}×{height}"


@dataclass(frozen=True)
class BenchResult:
    """One run of the benchmark."""

    schema: int
    environment: dict[str, Any]
    gpu_after: dict[str, Any] | None
    limits: dict[str, tuple[float, ...]]
    """Seconds of each large matrix product, by "PRECISION BACKEND", in the same rounds."""
    macs_of_product: int
    rows: tuple[BenchRow, ...]

    def limit(self, precision: str) -> tuple[str, float] | None:
        """Return the backend with the fastest product in a precision, and its MACs per second."""
        rates = {
            name.split()[1]: self.macs_of_product / Measurement(tuple(samples)).percentile(50)
            for name, samples in self.limits.items()
            if name.split()[0] == precision
        }
        return max(rates.items(), key=lambda item: item[1]) if rates else None

    @property
    def options(self) -> dict[str, Any]:
        """The options of `ModelOptions` that differ from the defaults."""
        return dict(self.environment.get("options", {}))

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-ready facts, with every sample."""
        return asdict(self)


def read_result(path: Path) -> BenchResult:
    """Read the JSON file of an earlier run.

    Raises:
        InputError: the file is missing, damaged or of another version.
    """
    renew = "name a JSON file from this version of `hfdn bench`, or measure again"
    try:
        result = read_json(path, BenchResult, SCHEMA, InputError, renew)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}; check the path."
        ) from None
    if not result.rows:
        raise InputError(f"{path} has no rows; {renew}.")
    return result


def format_table(result: BenchResult) -> str:
    """Return Markdown tables, and a sentence for each ratio with too wide a spread."""
    facts = result.environment
    options = "".join(f"; {name} {value}" for name, value in result.options.items())
    lines = [
        f"{facts['processor']}, {facts['cores']} cores, {len(result.rows[0].end_to_end)} rounds; "
        f"median (middle half){options}",
        "",
        "| model | backend | precision | input | inference only | with transfers | end to end "
        "| ratio | PSNR cost | peak memory | share of limit |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    doubts = []
    for row in result.rows:
        first = next(r for r in result.rows if r.size == row.size)
        ratio = row.backend_alone.ratio(first.backend_alone)
        doubts.append(doubt(row.key, ratio) if row is not first else None)
        peak = "-" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB"
        cells = [
            row.model,
            row.backend,
            row.precision,
            f"{row.size[0]}×{row.size[1]}",
            _time(row.inference),
            _time(row.with_transfers),
            _time(row.end_to_end),
            f"{ratio:.2f}",
            f"{row.psnr_cost_db:+z.3f} dB",
            peak,
            _share(result, row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    limits = {p: result.limit(p) for p in dict.fromkeys(row.precision for row in result.rows)}
    lines += [
        "",
        *(
            f"- limit in {precision}: {limit[1] / 1e9:.0f} GMAC/s, a product of {limit[0]}"
            for precision, limit in limits.items()
            if limit
        ),
        *(f"- {sentence}" for sentence in doubts if sentence),
    ]
    if result.options:
        lines.append(
            "- the options apply to end to end, PSNR cost and peak memory; the other columns are "
            "for one pass over the whole input"
        )
    return "\n".join([*lines, *_latencies(result)])


def _latencies(result: BenchResult) -> list[str]:
    """Return the figures that `trtexec` prints: throughput, and percentiles of the latency."""
    columns = {"mean": None, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "min": 0, "max": 100}
    lines = [
        "",
        "Latency of the backend in ms, including transfers if there are any; throughput of one "
        "image after the other:",
        "",
        f"| model | backend | precision | input | throughput | {' | '.join(columns)} |",
        f"|{'---|' * (5 + len(columns))}",
    ]
    for row in result.rows:
        found = Measurement(row.with_transfers or row.inference or ())
        times = [
            found.mean().middle if p is None else found.percentile(p) for p in columns.values()
        ]
        cells = [
            row.model,
            row.backend,
            row.precision,
            f"{row.size[0]}×{row.size[1]}",
            f"{found.throughput():.2f} images/s",
            *(f"{1000 * seconds:.1f}" for seconds in times),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _time(samples: tuple[float, ...] | None) -> str:
    return str(Measurement(samples)) if samples else "-"


def _share(result: BenchResult, row: BenchRow) -> str:
    limit = result.limit(row.precision)
    if row.backend in ON_GPU or limit is None:
        return "-"
    return f"{100 * row.macs / row.backend_alone.percentile(50) / limit[1]:.0f} %"


def regressions(new: BenchResult, old: BenchResult) -> list[str]:
    """Return a phrase for each row whose middle half is above that of the same row in `old`.

    Raises:
        InputError: the two were measured with different options.
    """
    if new.options != old.options:
        told = " and ".join(str(result.options or "none") for result in (new, old))
        raise InputError(f"the runs had different options ({told}); measure with the same options.")
    before = {row.key: row for row in old.rows}
    phrases = []
    for row in new.rows:
        if row.key not in before:
            continue
        was, now = before[row.key].backend_alone, row.backend_alone
        ratio = now.percentile(50) / was.percentile(50)
        if now.percentile(25) > was.percentile(75) and ratio > LEAST_REGRESSION:
            phrases.append(f"{row.key} took {ratio:.2f} times as long")
    return phrases
