from .bench import read_result, regressions, table
from .info import describe
from .process import positive, run_command, start
from .upscale import main

__all__ = [
    "describe",
    "main",
    "positive",
    "read_result",
    "regressions",
    "run_command",
    "start",
    "table",
]
