from .environment import environment_facts
from .loadgen import SCENARIOS, run_scenario
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
from .resize import cubic, imresize
from .roofline import MACS, SIDE, products
from .samples import calibration_photographs, load_original, make_pair, photographs
from .suite import (
    ON_GPU,
    PIXELS,
    SCHEMA,
    BenchResult,
    BenchRow,
    Candidate,
    plan,
    run,
    skip_unavailable,
)
from .timing import WARMUP, Interval, Measurement, doubt, measure

__all__ = [
    "MACS",
    "ON_GPU",
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
    "cubic",
    "degrade",
    "doubt",
    "environment_facts",
    "imresize",
    "load_luma_set",
    "load_original",
    "luma8",
    "make_pair",
    "measure",
    "photographs",
    "plan",
    "products",
    "psnr",
    "run",
    "run_scenario",
    "skip_unavailable",
    "ssim",
    "to_levels",
]
