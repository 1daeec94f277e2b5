"""Requirements of a CUDA graph on a step, checked without a GPU."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from training.data import Patches
from training.initial import initial_network
from training.loop import Trainer
from training.recipe import FAST, RECIPES
from training.step import WARM_UP, Step

# Operations that make the host wait for a result or a shape.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero")


class NoWaiting(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name()
        assert not any(word in name for word in WAITING), f"{name} waits for the device"
        return function(*args, **(kwargs or {}))


def test_the_check_finds_what_waits():
    for wait in (lambda x: x.item(), lambda x: int(x), lambda x: bool(x), lambda x: x[x > 0]):
        with pytest.raises(AssertionError, match="waits"), NoWaiting():
            wait(torch.ones(()))


@pytest.mark.parametrize("name", ["paper", "fast", "finish"])
def test_a_step_does_not_wait_for_the_device(tmp_path, name):
    trainer = Trainer(initial_network(4, None, 0), RECIPES[name], tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    patches = Patches([image], 4, 96, "cpu")
    where, total = patches.draw(1, 0, 0), torch.zeros(())
    for _ in range(2):  # SOAP's first step sets the bases, and may wait
        trainer.optimiser.prepare(1e-3)
        trainer._learn(patches, where, total)
    with NoWaiting():
        trainer.optimiser.prepare(1e-3)
        trainer._learn(patches, where, total)
        trainer._move_average()
        if FAST.optimiser == RECIPES[name].optimiser:
            trainer.optimiser.refresh()


def test_a_step_keeps_its_tensors(tmp_path):
    """A graph repeats its work on the addresses that it captured."""
    trainer = Trainer(initial_network(4, None, 0), FAST, tmp_path)
    stacks = trainer.optimiser.stacks

    def addresses():
        tensors = [*trainer.network.parameters(), *trainer.best.parameters()]
        for stack in stacks:
            tensors += [stack.first, stack.second, *stack.bases.values()]
            tensors += stack.covariances.values()
        return [tensor.data_ptr() for tensor in tensors]

    before = addresses()
    for _ in range(12):  # with a refresh
        for parameter in trainer.network.parameters():
            parameter.grad = torch.randn_like(parameter)
        trainer.optimiser.prepare(1e-3)
        trainer.optimiser.step()
    trainer.save({"step": 12, "loss": 0.0})
    assert addresses() == before


def test_a_few_eager_calls_then_one_capture_then_replays(monkeypatch):
    events = []

    class Graph:
        def replay(self):
            events.append("replay")

    class Stream:
        def wait_stream(self, other):
            pass

    @contextmanager
    def capture(graph, stream):
        events.append("capture")
        yield

    @contextmanager
    def on(stream):
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "stream", on)
    step = Step(lambda: events.append("eager"), "cuda")
    for _ in range(WARM_UP + 2):
        step()
    assert events == ["eager"] * WARM_UP + ["capture", "eager", "replay", "replay"]
    assert not torch.backends.cudnn.benchmark
