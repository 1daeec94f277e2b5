from .commands import main
from .info import describe
from .options import positive
from .process import run_command, start

__all__ = [
    "describe",
    "main",
    "positive",
    "run_command",
    "start",
]
