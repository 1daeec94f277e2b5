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
        assert rule.get("when", "turned") in ("turned", "converted", "bare")


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


def test_metadata_of_jpeg_xl_in_brotli_are_read(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    exif = bytes(4) + b"MM\0*\0\0\0\x08\0\1\x01\x0f\0\2\0\0\0\6\0\0\0\x1a\0\0\0\0Maker\0"
    head = b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
    code = b"\0\0\0\0jxlc\xff\x0a" + bytes(20)
    for number, box in enumerate((b"Exif" + exif, b"brobExif" + imagecodecs.brotli_encode(exif))):
        size = (4 + len(box)).to_bytes(4, "big")
        (tmp_path / f"{number}.jxl").write_bytes(head + size + box + code)
    plain, packed = metadata.read_tags([tmp_path / "0.jxl", tmp_path / "1.jxl"])
    assert plain["IFD0:Make"] == packed["IFD0:Make"] == ["Maker"]


def test_xmp_may_become_utf_8_alone():
    name = "XMP-dc:Title"
    assert differences({name: ["base64:6Q=="]}, {name: ["é"]}) == []
    assert differences({name: ["base64:6Q=="]}, {name: ["base64:6g=="]}) != []
    assert differences({name: ["e"]}, {name: ["é"]}) != []
