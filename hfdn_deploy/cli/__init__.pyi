from .commands import main
from .info import describe
from .logs import set_up_logging
from .options import positive, positive_number
from .process import run_command, start

__all__ = [
    "describe",
    "main",
    "positive",
    "positive_number",
    "run_command",
    "set_up_logging",
    "start",
]
