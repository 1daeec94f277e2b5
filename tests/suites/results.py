"""Results of files, counted by package."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

OUTCOMES = {
    "upscaled": "read, upscaled and written",
    "larger": "larger than the images that are upscaled here",
    "refused": "refused for a reason other than damage",
    "corrupt": "another program also complains about the file",
    "unknown": "refused or read, but no other program here supports this kind of file",
    "crashed": "the process ended or took too long",
}
KINDS = {
    "wrong pixels": "read or written pixels differ from those of another decoder",
    "foreign exceptions": "an exception that is not HFDNError, a crash, a hang",
    "metadata": "tags differ in a way that expected.toml does not list",
    "called damaged": "refused as damaged, but other programs read it without complaint",
    "stderr": "a library wrote to stderr",
    "left behind": "files other than outputs remain",
}
"""Kinds of findings; none should occur."""


@dataclass
class Result:
    """The result of checking one file."""

    path: str
    outcome: str = "upscaled"
    """One of `OUTCOMES`."""
    said: str = ""
    """The refusal, and the complaint of the other program."""
    findings: list[tuple[str, str]] = field(default_factory=list)
    """One of `KINDS`, and a description."""
    compared: bool = False
    """Whether pixels were compared with another decoder's."""
    tags: int = 0
    """Number of compared tags; 0 if exiftool complains about the original."""


def by_package(results: Sequence[Result], folder: Path) -> dict[str, Counter[str]]:
    """Return counts of outcomes and of files with each kind of finding, by subfolder."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        name, *_ = Path(result.path).relative_to(folder).parts
        one = Counter(["files", result.outcome, *{kind for kind, _ in result.findings}])
        one |= {"compared": int(result.compared), "tags": result.tags}
        counts.setdefault(name, Counter()).update(one)
    return dict(sorted(counts.items()))


def table(counts: Mapping[str, Counter[str]]) -> str:
    """Return the counts as a Markdown table, with a row for the total."""
    columns = ("files", *OUTCOMES, "compared", "tags", *KINDS)
    rows = [("package", *columns), ("---", *["---:"] * len(columns))]
    total = sum(counts.values(), Counter[str]())
    for name, count in [*counts.items(), ("**all**", total)]:
        rows.append((name, *(str(count[column]) for column in columns)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def findings(results: Sequence[Result], folder: Path) -> str:
    """Return a line for each finding: its kind, the file, and the description."""
    lines = (
        f"{kind}: {Path(result.path).relative_to(folder)}: {' / '.join(text.splitlines())}\n"
        for result in results
        for kind, text in result.findings
    )
    return "".join(sorted(lines))


def save(results: Sequence[Result], path: Path) -> None:
    """Write results as JSON."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1))


def load(path: Path) -> list[Result]:
    """Return the saved results without those of crashes; an empty list if nothing was saved."""
    saved = json.loads(path.read_text()) if path.exists() else []
    results = [Result(**one) for one in saved]
    return [result for result in results if result.outcome != "crashed"]
