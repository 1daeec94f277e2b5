"""MLPerf's load generator on one upscaler: its rules decide when images are sent."""

import math
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy.atomic import replaced
from hfdn_deploy.bench.samples import make_pair
from hfdn_deploy.bench.scenarios import SCENARIOS
from hfdn_deploy.bench.timing import measure
from hfdn_deploy.errors import BackendError
from hfdn_deploy.images import Image
from hfdn_deploy.upscaler import Upscaler

# Share of the backend's sequential throughput; at 1, the queue would grow without limit.
SERVER_LOAD = 0.7


def run_scenario(
    up: Upscaler,
    photograph: NDArray[np.uint8],
    size: tuple[int, int],
    scenario: str,
    seconds: float,
    log: Path,
) -> str:
    """Run one scenario of `SCENARIOS`, with LoadGen's log files in the folder `log`.

    Returns:
        LoadGen's summary.

    Raises:
        BackendError: LoadGen is not installed.
        InputError: the log cannot be written.
    """
    try:
        import mlperf_loadgen as lg
    except ImportError:
        raise BackendError(
            "LoadGen is not installed: pip install 'hfdn-deploy[loadgen]'."
        ) from None
    image = make_pair(photograph, size, up.scale).image
    answers: list[Future[Image]] = []

    def issue(samples: list[Any]) -> None:
        for sample in samples:
            answers.append(submit())
            # LoadGen would wait for ever for a failed image, so report it as done; it raises below.
            answers[-1].add_done_callback(partial(complete, sample.id))

    def complete(sample: int, _: Future[Image]) -> None:
        lg.QuerySamplesComplete([lg.QuerySampleResponse(sample, 0, 0)])

    rate = measure({"": lambda: up(image)}, 3)[""].throughput()
    submit = partial(up.submit, image)
    pool: AbstractContextManager[object] = nullcontext()
    if scenario == "offline":  # all images are known in advance, as in a folder
        plan, threads = up.plan_many(image.shape, image.dtype, math.ceil(seconds * rate))
        pool = workers = ThreadPoolExecutor(threads)
        submit = partial(workers.submit, lambda: up.stream(image, plan).whole())
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, SCENARIOS[scenario])
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = round(1000 * seconds)
    settings.min_query_count = 1
    settings.single_stream_expected_latency_ns = round(1e9 / rate)
    settings.offline_expected_qps = rate
    settings.server_target_qps = SERVER_LOAD * rate
    settings.server_target_latency_ns = round(10e9 / rate)
    with pool, replaced(log) as temporary:
        temporary.mkdir()
        output = lg.LogOutputSettings()
        output.outdir = str(temporary)
        logging = lg.LogSettings()
        logging.log_output = output
        library = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        system = lg.ConstructSUT(issue, lambda: None)
        try:
            lg.StartTestWithLogSettings(system, library, settings, logging)
        finally:
            lg.DestroySUT(system)
            lg.DestroyQSL(library)
        for answer in answers:
            answer.result()
    return (log / "mlperf_log_summary.txt").read_text(encoding="utf-8")
