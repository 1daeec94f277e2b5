"""What came of files, counted by package."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

OUTCOMES = {
    "upscaled": "read, upscaled and written",
    "larger": "has more pixels than are upscaled here",
    "refused": "refused, and the reason is not damage",
    "corrupt": "another program complains of the file, too",
    "unknown": "refused or read, and no other program here knows this kind of file",
    "crashed": "ended the process, or took too long",
}
KINDS = {
    "wrong pixels": "pixels differ from another decoder's, read or written",
    "foreign exceptions": "an exception that is not HFDNError, a crash, a hang",
    "metadata": "tags differ that expected.toml does not list",
    "called damaged": "refused as damaged, and other programs read it without complaint",
    "stderr": "lines of libraries on the standard error",
    "left behind": "files that are no outputs",
}
"""Of findings; none should occur."""


@dataclass
class Result:
    """What came of one file."""

    path: str
    outcome: str = "upscaled"
    """One of `OUTCOMES`."""
    said: str = ""
    """The refusal, and the complaint of the other program."""
    findings: list[tuple[str, str]] = field(default_factory=list)
    """One of `KINDS`, and what was found."""
    compared: bool = False
    """Whether pixels were compared with another decoder's."""
    tags: int = 0
    """How many tags were compared; none where exiftool complains of the original's."""


def by_package(results: Sequence[Result], folder: Path) -> dict[str, Counter[str]]:
    """Return counts of outcomes and of files with a kind of finding, by the folder below this."""
    counts: dict[str, Counter[str]] = {}
    for result in results:
        name, *_ = Path(result.path).relative_to(folder).parts
        one = Counter(["files", result.outcome, *{kind for kind, _ in result.findings}])
        one |= {"compared": int(result.compared), "tags": result.tags}
        counts.setdefault(name, Counter()).update(one)
    return dict(sorted(counts.items()))


def table(counts: Mapping[str, Counter[str]]) -> str:
    """Return the counts as a table in Markdown, with a row for all."""
    columns = ("files", *OUTCOMES, "compared", "tags", *KINDS)
    rows = [("package", *columns), ("---", *["---:"] * len(columns))]
    total = sum(counts.values(), Counter[str]())
    for name, count in [*counts.items(), ("**all**", total)]:
        rows.append((name, *(str(count[column]) for column in columns)))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def findings(results: Sequence[Result], folder: Path) -> str:
    """Return a line for each finding: its kind, the file, and what was found."""
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
    """Return results that were saved, but for files that ended their process; none without any."""
    saved = json.loads(path.read_text()) if path.exists() else []
    results = [Result(**one) for one in saved]
    return [result for result in results if result.outcome != "crashed"]
