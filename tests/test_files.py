import pytest

from hfdn_deploy.errors import InputError
from hfdn_deploy.files import replaced


def test_success_replaces_file_and_directory(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with replaced(tmp_path / "a.txt") as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "old").touch()
    with replaced(tmp_path / "d") as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "d"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_the_old_and_no_rest(tmp_path, error):
    (tmp_path / "a").write_text("old")
    with pytest.raises(error), replaced(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_full_disk_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No space left"), replaced(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    missing = replaced(tmp_path / "missing" / "a")
    with pytest.raises(InputError, match=r"a cannot be written: No such file"), missing as path:
        path.touch()
