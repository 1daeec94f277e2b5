import pytest

from tests.suites import metadata
from tests.suites.metadata import differences, rules

BEFORE = {"IFD0:Make": ["Maker"], "IFD0:Orientation": [6], "File:FileSize": [1000]}


@pytest.mark.parametrize(
    ("after", "facts", "found"),
    [
        ({}, ["turned"], []),
        ({}, [], ["changed IFD0:Orientation: 6 -> 1"]),
        ({"IFD0:Make": []}, ["turned"], ["lost IFD0:Make: Maker"]),
        ({"IFD0:Make": ["??"]}, ["turned"], ["changed IFD0:Make: Maker -> ??"]),
        ({"IFD0:Make": ["Maker", "Maker"]}, ["turned"], ["new IFD0:Make: Maker"]),
        ({"ExifTool:Warning": ["bad IFD"]}, ["turned"], ["new ExifTool:Warning: bad IFD"]),
    ],
)
def test_what_differs_is_found_unless_a_rule_expects_it(after, facts, found):
    copy = {**BEFORE, "IFD0:Orientation": [1], "File:FileSize": [4000], **after}
    assert differences(BEFORE, copy, facts) == found


def test_each_rule_has_a_reason_and_known_words():
    words = {"tags", "except", "change", "when", "beside", "value", "warning", "becomes", "reason"}
    for rule in rules():
        assert rule["reason"] and rule["tags"]
        assert set(rule) <= words
        assert rule.get("when", "turned") in ("turned", "converted")


def test_a_warning_of_the_log_makes_a_difference_expected(monkeypatch):
    rule = {"tags": "IPTC:.*", "warning": "IPTC .* left out", "reason": "told"}
    monkeypatch.setattr(metadata, "rules", lambda: [rule])
    before = {"IPTC:City": ["Rome"]}
    assert differences(before, {}) == ["lost IPTC:City: Rome"]
    assert differences(before, {}, warnings=["a.webp: its IPTC is left out"]) == []


def test_a_comment_may_become_a_text_of_png():
    before, after = {"File:Comment": ["Hello"]}, {"PNG:Comment": ["Hello"]}
    assert differences(before, after, ["converted"]) == []
    assert differences(before, {"PNG:Comment": ["?"]}, ["converted"]) == [
        "lost File:Comment: Hello"
    ]


def test_exiftool_complains_of_what_is_damaged_alone():
    assert metadata.complaint({"ExifTool:Warning": ["[minor] old"]}) is None
    assert metadata.complaint({"ExifTool:Warning": ["[minor] old", "Bad IFD0"]}) == (
        "exiftool: Bad IFD0"
    )
