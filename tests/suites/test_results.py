from pathlib import Path

from tests.suites.results import Result, by_package, findings, load, save, table

RESULTS = [
    Result("suites/b/one.png", compared=True, tags=5),
    Result("suites/a/two.jpg", findings=[("metadata", "lost IFD0:Make"), ("metadata", "lost x")]),
    Result("suites/a/three.tif", "refused", "is empty"),
]


def test_counts_are_of_files_by_package():
    counts = by_package(RESULTS, Path("suites"))
    assert list(counts) == ["a", "b"]
    assert (counts["a"]["files"], counts["a"]["refused"], counts["a"]["metadata"]) == (2, 1, 1)
    assert (counts["b"]["upscaled"], counts["b"]["compared"], counts["b"]["tags"]) == (1, 1, 5)


def test_the_table_ends_with_the_sums():
    head, _, *rows = table(by_package(RESULTS, Path("suites"))).splitlines()
    total = dict(zip(head.split(" | "), rows[-1].split(" | "), strict=True))
    assert total["| package"] == "| **all**"
    numbers = [total[name] for name in ("files", "upscaled", "refused", "tags", "metadata")]
    assert numbers == ["3", "2", "1", "5", "1"]


def test_a_finding_is_a_line_with_its_file():
    assert findings(RESULTS, Path("suites")).splitlines() == [
        "metadata: a/two.jpg: lost IFD0:Make",
        "metadata: a/two.jpg: lost x",
    ]


def test_results_are_saved_and_loaded_but_for_crashes(tmp_path):
    assert load(tmp_path / "results.json") == []
    save([*RESULTS, Result("suites/b/bad.png", "crashed")], tmp_path / "results.json")
    again = load(tmp_path / "results.json")
    assert findings(again, Path("suites")) == findings(RESULTS, Path("suites"))
    assert by_package(again, Path("suites")) == by_package(RESULTS, Path("suites"))
