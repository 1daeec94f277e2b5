"""The parser of all command lines."""

import argparse
import json
from typing import NoReturn

from hfdn_deploy.cli.printing import printable
from hfdn_deploy.errors import InputError


class Parser(argparse.ArgumentParser):
    """Parser that prints an error as one sentence, and can end its help with examples."""

    wants_json = False
    """Whether errors are also printed as JSON."""

    def add_examples(self, *examples: str) -> None:
        """End the help with command lines that work as written.

        Args:
            examples: command lines; a comment may follow after "#".
        """
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        title = "example:" if len(examples) == 1 else "examples:"
        text = "\n".join([title, *(f"  {example}" for example in examples)])
        self.epilog = f"{self.epilog.rstrip()}\n\n{text}" if self.epilog else text

    def error(self, message: str) -> NoReturn:
        """Print why the arguments are refused, and exit with the code of `InputError`."""
        if self.wants_json:
            print(json.dumps({"error": message, "exit_code": InputError.exit_code}, indent=1))
        self.exit(InputError.exit_code, f"error: {printable(message)}; see `{self.prog} --help`.\n")
