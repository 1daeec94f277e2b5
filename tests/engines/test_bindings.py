"""The names in `engines.bindings` exist in the real TensorRT module."""

import inspect
import re

import pytest

from hfdn_deploy.engines import bindings
from tests.helpers.paths import ROOT

RUNTIME = ROOT / "hfdn_deploy"

PROTOCOLS = [
    value
    for value in vars(bindings).values()
    if inspect.isclass(value) and value.__module__ == bindings.__name__
]


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda p: p.__name__)
def test_members_exist(trt, protocol):
    real = trt if protocol is bindings.TensorRT else getattr(trt, protocol.__name__)
    own = {*vars(protocol), *vars(protocol).get("__annotations__", {})}
    names = {name for name in own if not name.startswith("_")} | {"__version__"} & own
    assert names or protocol in (bindings.INetworkDefinition, bindings.IHostMemory)
    assert [name for name in sorted(names) if not hasattr(real, name)] == []


def test_members_of_enumerations_exist(trt):
    files = [*RUNTIME.glob("engines/*.py"), RUNTIME / "backends" / "tensorrt.py"]
    text = "\n".join(file.read_text() for file in files)
    chains = set(re.findall(r"\btrt\.([A-Z]\w+)\.([A-Z_]+)\b", text))
    assert len(chains) >= 10
    for enumeration, member in chains:
        assert hasattr(getattr(trt, enumeration), member), (enumeration, member)


def test_keyword_arguments_exist(trt):
    assert "ignore_mismatch" in trt.IBuilderConfig.set_timing_cache.__doc__


@pytest.mark.parametrize(
    ("double", "protocol"),
    [
        ("Runtime", bindings.Runtime),
        ("Engine", bindings.ICudaEngine),
        ("Context", bindings.IExecutionContext),
        ("Config", bindings.IRuntimeConfig),
        ("KernelCache", bindings.IRuntimeCache),
    ],
)
def test_what_is_used_of_tensorrt_is_simulated(double, protocol):
    """The simulated GPU of the tests has the signatures of the protocols, and so the real ones."""
    pytest.importorskip("cuda.bindings", reason="the extra rtx is not installed")
    from tests.helpers.simulated_cuda import tensorrt

    methods = {name: value for name, value in vars(protocol).items() if inspect.isfunction(value)}
    del methods["__init__"], methods["__subclasshook__"]
    if double == "Engine":
        del methods["create_engine_inspector"]
    assert methods
    for name, method in methods.items():
        own = inspect.signature(getattr(getattr(tensorrt, double), name))
        assert list(own.parameters) == list(inspect.signature(method).parameters), name
