from .commands import main
from .info import describe
from .logs import set_up_logging
from .options import positive, positive_number, size
from .parser import Parser
from .printing import printable
from .process import run_command, start

__all__ = [
    "Parser",
    "describe",
    "main",
    "positive",
    "positive_number",
    "printable",
    "run_command",
    "set_up_logging",
    "size",
    "start",
]
