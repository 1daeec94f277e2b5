from .bench import read_result, regressions, table
from .doctor import PACKAGES, package_version
from .info import describe
from .process import positive, run_command, start
from .serve import read_token
from .upscale import main

__all__ = [
    "PACKAGES",
    "describe",
    "main",
    "package_version",
    "positive",
    "read_result",
    "read_token",
    "regressions",
    "run_command",
    "start",
    "table",
]
