"""Pages of the site that are made from the code: the command line and the manifest's schema."""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout

import pydantic
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import benchmarks.cli
import export.cli
import hfdn_deploy.cli
import training.cli
from hfdn_deploy.bundle import SCHEMA, Manifest
from hfdn_deploy.cli.commands import COMMANDS

_INTRODUCTION = """# Command line

`hfdn` comes with the package; the other three programs run from a checkout. Exit codes are on
[a page of their own](errors.md).
"""
_PROGRAMS: dict[str, tuple[Callable[[list[str]], int], tuple[str, ...]]] = {
    "hfdn": (hfdn_deploy.cli.main, tuple(COMMANDS)),
    "python -m export": (export.cli.main, ("", "verify", "image", "triton", "web")),
    "python -m training": (training.cli.main, ("", "session", "ablate", "publish")),
    "python -m benchmarks": (benchmarks.cli.main, tuple(benchmarks.cli.COMMANDS)),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {
        "reference/cli.md": "\n".join(_command_line()),
        "reference/manifest.schema.json": json.dumps(manifest_schema(), indent=2) + "\n",
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def manifest_schema() -> dict[str, object]:
    """Return the JSON Schema of `manifest.json`."""
    schema = pydantic.TypeAdapter(Manifest).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"Manifest of an hfdn_deploy bundle, schema {SCHEMA}",
    }


def _command_line() -> Iterator[str]:
    yield _INTRODUCTION
    for program, (main, commands) in _PROGRAMS.items():
        yield f"\n## {program}\n"
        for command in commands:
            if command:
                yield f"\n### {program} {command}\n"
            yield f"```text\n{_help(main, command)}```\n"


def _help(main: Callable[[list[str]], int], command: str) -> str:
    os.environ["COLUMNS"] = "80"
    text = io.StringIO()
    with redirect_stdout(text):
        try:
            main([word for word in (command, "--help") if word])
        except SystemExit as end:
            assert not end.code, (command, end)
    return text.getvalue()
