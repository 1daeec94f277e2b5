from .environment import PACKAGES, environment_facts, package_version
from .loadgen import run_scenario
from .quality import (
    PEAK,
    SSIM_SIGMA,
    SSIM_WINDOW,
    crop_to_multiple,
    degrade,
    load_luma_set,
    luma8,
    psnr,
    ssim,
    to_levels,
)
from .results import (
    ON_GPU,
    SCHEMA,
    BenchResult,
    BenchRow,
    format_table,
    read_result,
    regressions,
)
from .roofline import MACS, SIDE, products
from .samples import (
    calibration_photographs,
    load_original,
    make_pair,
    photographs,
    sharp_photographs,
)
from .scenarios import SCENARIOS
from .suite import PIXELS, Candidate, plan, run, skip_unavailable
from .timing import WARMUP, Interval, Measurement, doubt, measure, prepare

__all__ = [
    "MACS",
    "ON_GPU",
    "PACKAGES",
    "PEAK",
    "PIXELS",
    "SCENARIOS",
    "SCHEMA",
    "SIDE",
    "SSIM_SIGMA",
    "SSIM_WINDOW",
    "WARMUP",
    "BenchResult",
    "BenchRow",
    "Candidate",
    "Interval",
    "Measurement",
    "calibration_photographs",
    "crop_to_multiple",
    "degrade",
    "doubt",
    "environment_facts",
    "format_table",
    "load_luma_set",
    "load_original",
    "luma8",
    "make_pair",
    "measure",
    "package_version",
    "photographs",
    "plan",
    "prepare",
    "products",
    "psnr",
    "read_result",
    "regressions",
    "run",
    "run_scenario",
    "sharp_photographs",
    "skip_unavailable",
    "ssim",
    "to_levels",
]
