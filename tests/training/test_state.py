import pytest

from hfdn_deploy.errors import InputError
from tests.helpers.disks import room_for, sizes_below

torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)

from training.state import read_state, write_state  # noqa: E402


def test_on_a_disk_that_fills_a_state_is_whole_or_the_one_before_stays(tmp_path):
    path = tmp_path / "state.pt"
    identity = {"scale": 2}
    write_state(path, {"identity": identity, "weights": [torch.zeros(3)]})
    before = path.read_bytes()
    new = {"identity": identity, "weights": [torch.ones(100, 50)]}
    for size in sizes_below(20_000, 10):
        with pytest.raises(InputError, match="cannot be written: File too large"), room_for(size):
            write_state(path, new)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
    write_state(path, new)
    assert read_state(path, identity)["weights"][0].sum() == 5000
