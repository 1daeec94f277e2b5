import pickle
import shlex
import subprocess
import sys
from argparse import Namespace

import pytest
import safetensors.torch
import torch

from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.network import HFDNConfig, load_checkpoint, save_checkpoint
from tests.helpers.networks import make_network
from tests.helpers.paths import ROOT

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
    assert torch.equal(loaded(lr), network.for_inference()(lr))
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
        with pytest.raises(CheckpointError, match="not a file of plain tensors"):
            load_checkpoint(name, HFDNConfig(4))
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize(
    ("name", "wrap", "told"),
    [
        ("a.pth", lambda s: {"params": s, "params_ema": s}, "params_ema (not params)"),
        ("a.PTH", lambda s: {"params": s}, "params"),
        ("a.pt", lambda s: {"state_dict": s, "epoch": 3}, "state_dict"),
        ("a.pth", lambda s: {"model": {"state_dict": s}}, "model, state_dict"),
        ("a.pth", lambda s: {f"module.{k}": v for k, v in s.items()}, "names behind 'module.'"),
        (
            "a.pth",
            lambda s: (
                {"n_averaged": torch.tensor(9)} | {f"module._orig_mod.{k}": v for k, v in s.items()}
            ),
            "names behind 'module.', names behind '_orig_mod.'",
        ),
        ("a.pth", lambda s: {k: v.half() for k, v in s.items()}, "float16 as float32"),
        ("a.safetensors", lambda s: {k: v.bfloat16() for k, v in s.items()}, "bfloat16 as float32"),
        ("a.SafeTensors", lambda s: s, None),
    ],
)
def test_what_trainers_write_is_unwrapped(tmp_path, caplog, name, wrap, told):
    caplog.set_level("INFO", "hfdn_deploy")
    network, path = make_network(), tmp_path / name
    saved = wrap(network.state_dict())
    (safetensors.torch.save_file if "afe" in name else torch.save)(saved, path)
    loaded = load_checkpoint(path, network.config)
    exact = told is None or "float16" not in told
    for key, weights in loaded.state_dict().items():
        assert weights.dtype == torch.float32
        expected = network.state_dict()[key]
        assert torch.equal(weights, expected if exact else expected.to(_kind(told)).float())
    assert caplog.messages == ([f"{path}: took {told}"] if told else [])


def _kind(told):
    return torch.bfloat16 if told.startswith("b") else torch.float16


def test_averaged_weights_are_preferred(tmp_path):
    plain, averaged = make_network(), make_network(seed=1)
    states = {"params": plain.state_dict(), "params_ema": averaged.state_dict()}
    torch.save(states, tmp_path / "a.pth")
    loaded = load_checkpoint(tmp_path / "a.pth", plain.config)
    assert torch.equal(loaded.fusion.weight, averaged.fusion.weight)
    assert not torch.equal(loaded.fusion.weight, plain.fusion.weight)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: network,
        lambda network: {"model": network, "epoch": 3},
        lambda network: {"params_ema": network.state_dict(), "opt": Namespace(scale=4)},
    ],
)
def test_a_pickled_module_is_refused_with_a_command(tmp_path, monkeypatch, wrap):
    monkeypatch.chdir(tmp_path)
    network = make_network()
    torch.save(wrap(network), "it's.pth")
    with pytest.raises(CheckpointError, match=r"it pickles (hfdn_deploy|argparse)") as caught:
        load_checkpoint("it's.pth", network.config)
    message = str(caught.value)
    assert "\x1b" not in message
    assert "\n" not in message
    command = shlex.split(message.partition("made: ")[2])
    subprocess.run([sys.executable, *command[1:]], check=True, env={"PYTHONPATH": str(ROOT)})
    loaded = load_checkpoint("it's-tensors.pth", network.config)
    assert torch.equal(loaded.fusion.weight, network.fusion.weight)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"conv.weight": torch.zeros(2), "conv.bias": torch.zeros(2)}, "unexpected conv.weight, "),
        ({"optimizer": {}, "epoch": 3}, "only optimizer, epoch; save that alone"),
        ([torch.zeros(2)], "holds no state dict"),
        ({"a": torch.zeros(2, dtype=torch.int8)}, "a is torch.int8"),
        ({"a": torch.zeros(2).to_sparse()}, "torch.sparse_coo"),
    ],
)
def test_other_things_are_named(tmp_path, state, message):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.pth", HFDNConfig(4))


def test_a_file_without_metadata_says_so(tmp_path):
    safetensors.torch.save_file(make_network().state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="name its scale"):
        load_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"deconv\S*weight is"):
        load_checkpoint(tmp_path / "a.safetensors", HFDNConfig(3))


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
