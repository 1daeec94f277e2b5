"""Examples at the end of a command's help."""

import argparse


def add_examples(parser: argparse.ArgumentParser, *examples: str) -> None:
    """End a parser's help with command lines that work as written.

    Args:
        parser: an epilog that it has already stays above the examples.
        examples: command lines; a comment may follow after "#".
    """
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    title = "example:" if len(examples) == 1 else "examples:"
    text = "\n".join([title, *(f"  {example}" for example in examples)])
    parser.epilog = f"{parser.epilog.rstrip()}\n\n{text}" if parser.epilog else text
