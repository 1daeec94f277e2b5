"""The layout: imports between packages, public names, and the length of files."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

# The packages and modules of hfdn_deploy, lowest first: each imports only from earlier ones.
ORDER = (
    "errors", "atomic", "interruption", "machine", "ycbcr", "graph", "cuda", "bundle", "options",
    "engines", "images", "network", "backends", "tiling", "upscaler", "video", "files", "bench",
    "service", "cluster", "cli", "__main__",
)  # fmt: skip
PROGRAMS = ("export", "training", "benchmarks")
RUNTIME, TESTS = ROOT / "hfdn_deploy", ROOT / "tests"
FILES = [
    path
    for folder in ("hfdn_deploy", *PROGRAMS, "tests", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
PACKAGES = sorted(path.parent.name for path in RUNTIME.glob("*/__init__.pyi"))
LONGEST = 300
"""Largest number of lines in a file."""


@dataclass(frozen=True)
class Imported:
    """A module of this checkout that a statement imports, and the imported name if any."""

    file: Path
    line: int
    module: tuple[str, ...]
    name: str | None = None

    def __str__(self) -> str:
        what = f"{self.name} of " if self.name else ""
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {what}{'.'.join(self.module)}"

    @property
    def room(self) -> str | None:
        """The package or module of hfdn_deploy that is imported from, if any."""
        inside = self.module[0] == "hfdn_deploy" and len(self.module) > 1
        return self.module[1] if inside else None


def is_module(path: tuple[str, ...]) -> bool:
    place = ROOT.joinpath(*path)
    return place.with_suffix(".py").is_file() or any(place.glob("*.py"))


def imports(file: Path) -> Iterator[Imported]:
    """Yield a file's imports from this checkout, also those in functions and for type checkers."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found = [(tuple(alias.name.split(".")), None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno}: relative import; name the package."
            module = tuple((node.module or "").split("."))
            inner = [((*module, alias.name), module, alias.name) for alias in node.names]
            found = [(path, None) if is_module(path) else (m, n) for path, m, n in inner]
        else:
            continue
        for module, name in found:
            if module[0] in ("hfdn_deploy", *PROGRAMS, "tests", "conftest"):
                yield Imported(file, node.lineno, module, name)


@cache
def all_imports() -> list[Imported]:
    return [imported for file in FILES for imported in imports(file)]


def room_of(file: Path) -> str | None:
    """Return the part of hfdn_deploy that a file belongs to, or that a test mirrors."""
    for parent in (RUNTIME, TESTS):
        if file.is_relative_to(parent):
            return file.relative_to(parent).parts[0].removesuffix(".py")
    return None


def public_names(package: str) -> list[str]:
    """Return `__all__` of a package of hfdn_deploy."""
    for node in ast.parse((RUNTIME / package / "__init__.pyi").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError(f"hfdn_deploy/{package}/__init__.pyi has no __all__.")


def complain(what: str, found: list[Imported]) -> None:
    if found:
        pytest.fail("\n".join([what, *map(str, found)]), pytrace=False)


def test_every_part_has_its_place_in_the_order():
    parts = {path.stem for path in RUNTIME.glob("*.py")} | set(PACKAGES)
    assert parts - {"__init__"} == set(ORDER)


def test_imports_point_one_way():
    rank = {name: place for place, name in enumerate(ORDER)}
    upwards = [
        one
        for one in all_imports()
        if one.file.is_relative_to(RUNTIME) and one.file != RUNTIME / "__init__.py"
        and one.room and rank[one.room] > rank[room_of(one.file)]
    ]  # fmt: skip
    complain("Imports from a later entry of ORDER:", upwards)


def test_the_runtime_takes_only_its_version_from_the_top():
    """The other names of the top package come from higher layers than most importers."""
    found = [
        one
        for one in all_imports()
        if one.file.is_relative_to(RUNTIME) and one.module == ("hfdn_deploy",)
        and one.name != "__version__"
    ]  # fmt: skip
    complain("Imports from hfdn_deploy; import from the package that defines the name:", found)


def test_the_runtime_imports_no_program():
    found = [
        one
        for one in all_imports()
        if one.file.is_relative_to(RUNTIME) and one.module[0] != "hfdn_deploy"
    ]  # fmt: skip
    complain("hfdn_deploy imports modules that are not in its wheel:", found)


def test_names_come_from_their_package():
    """Only a package itself and the tests in the folder of its name import its inner modules.

    Everything else imports public names from the package.
    """
    foreign = [
        one for one in all_imports() if one.room in PACKAGES and one.room != room_of(one.file)
    ]
    inner = [one for one in foreign if len(one.module) > 2]
    complain("Imports from a module inside a package:", inner)
    public = {package: public_names(package) for package in PACKAGES}
    private = [one for one in foreign if one.name and one.name not in public[one.room]]
    complain("Imports of names that are not in __all__:", private)


def test_inside_a_package_modules_import_modules():
    """Imports through the package would be circular."""
    found = [
        one
        for one in all_imports()
        if one.file.is_relative_to(RUNTIME) and one.room in PACKAGES
        and one.room == room_of(one.file) and len(one.module) == 2
    ]  # fmt: skip
    complain("Imports from the file's own package; import from the module:", found)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist(package):
    names = public_names(package)
    modules = {path.stem for path in (RUNTIME / package).glob("*.py")}
    assert not modules & set(names), "a public name hides the module of the same name"
    room = import_module(f"hfdn_deploy.{package}")
    assert set(room.__all__) == set(names)
    for name in names:
        try:
            getattr(room, name)
        except ModuleNotFoundError as error:
            if error.name.startswith("hfdn_deploy"):
                raise
            pytest.skip(f"{name} needs {error.name}")


def _shared_with(file: Path) -> tuple[str, ...]:
    """Return the test modules that a file may import; two folders are programs with own tests."""
    own = file.parent.name
    return ("helpers", own) if own in ("suites", "consumers") else ("helpers",)


def test_tests_share_through_helpers_alone():
    found = [
        one
        for one in all_imports()
        if "conftest" in one.module
        or (one.module[0] == "tests" and (*one.module, one.name)[1] not in _shared_with(one.file))
    ]
    complain("Imports of a test or a conftest; move shared code to tests/helpers:", found)


def test_few_modules_stand_alone():
    assert len(list(RUNTIME.glob("*.py"))) <= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_long(path):
    lines = path.read_text().count("\n")
    if lines > LONGEST:
        pytest.fail(f"{path.relative_to(ROOT)} has {lines} lines; split it.", pytrace=False)
