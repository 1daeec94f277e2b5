import pickle

import pytest
import safetensors.torch
import torch

from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.network import HFDNConfig, load_checkpoint, save_checkpoint
from tests.helpers.networks import make_network

METADATA = {
    "hfdn": '{"scale": 4, "attention": "ca+sa", "dense": "adaptive", "supervision": "s+m+d"}'
}


def write(path, change):
    state = {k: v.clone() for k, v in make_network().state_dict().items()}
    change(state)
    safetensors.torch.save_file(state, path, METADATA)
    return path


def test_round_trip(tmp_path):
    network = make_network(3, attention="ca")
    save_checkpoint(tmp_path / "a.safetensors", network)
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.config == network.config
    assert not loaded.training
    lr = torch.rand(1, 1, 5, 6)
    assert torch.equal(loaded(lr), network(lr))
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_pth_needs_the_configuration_and_holds_tensors_only(tmp_path):
    network = make_network()
    torch.save(network.state_dict(), tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth", network.config)
    assert torch.equal(loaded.fusion.weight, network.fusion.weight)
    with pytest.raises(CheckpointError, match="does not say which"):
        load_checkpoint(tmp_path / "a.pth")


class Exploit:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('exploited').touch()",))


def test_pickled_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Exploit()}, "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Exploit()))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(CheckpointError, match="no file of plain tensors"):
            load_checkpoint(name, HFDNConfig(4))
    assert not (tmp_path / "exploited").exists()


def test_another_scale_is_named(checkpoint):
    with pytest.raises(CheckpointError, match="scale 4, not 2"):
        load_checkpoint(checkpoint, HFDNConfig(2))


def drop(state):
    del state["fusion.bias"]


def add(state):
    state["extra.weight"] = torch.zeros(3)


def reshape(state):
    state["shallow1.weight"] = torch.zeros(64, 1, 3, 3)


def poison(state):
    state["heads.m.conv1.bias"][3] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "missing fusion.bias"),
        (add, "unexpected extra.weight"),
        (reshape, r"shallow1.weight is \[64, 1, 3, 3\], not \[48, 1, 3, 3\]"),
        (poison, "NaN or infinity in heads.m.conv1.bias"),
    ],
)
def test_wrong_tensors_are_named(tmp_path, change, message):
    path = write(tmp_path / "a.safetensors", change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_foreign_and_damaged_files(tmp_path, checkpoint):
    whole = checkpoint.read_bytes()
    damaged = {
        "missing.safetensors": None,
        "empty.safetensors": b"",
        "short.safetensors": whole[: len(whole) // 2],
        "text.safetensors": b"hello, this is no checkpoint",
        "empty.pth": b"",
        "a.onnx": whole,
    }
    for name, data in damaged.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match=name):
            load_checkpoint(tmp_path / name, HFDNConfig(4))
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no HFDN configuration"):
        load_checkpoint(tmp_path / "other.safetensors")
