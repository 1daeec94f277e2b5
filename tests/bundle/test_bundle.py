import hashlib
import shutil
import sys

import numpy as np
import onnx
import pytest

from hfdn_deploy.bundle import Bundle, Manifest, external_tensors, from_json, pretrained
from hfdn_deploy.errors import BundleError, GateError
from hfdn_deploy.graph import is_global_pool


@pytest.fixture
def copy(bundle, tmp_path):
    return shutil.copytree(bundle, tmp_path / "copy")


def test_manifest_says_what_the_file_is(bundle):
    manifest = Bundle(bundle).manifest
    assert (manifest.scale, manifest.parameters) == (4, 760_127)
    assert manifest.configuration["attention"] == "ca+sa"
    (entry,) = manifest.files
    assert entry.input.shape == ("batch", 1, "height", "width")
    assert entry.output.shape == ("batch", 1, "4*height", "4*width")
    assert (entry.graph, entry.halo) == ("fp32", 19)
    assert entry.pooled == "attention.ca.pool.globalaveragepool"
    assert entry.parity.passed
    gates = {gate.name: gate for gate in entry.parity.gates}
    assert 0 < gates["max_abs"].value == entry.parity.worst.max_abs <= gates["max_abs"].limit
    assert gates["max_abs"].limit == 1e-4
    assert entry.sha256 == hashlib.sha256((bundle / entry.file).read_bytes()).hexdigest()


def test_manifest_round_trip(bundle):
    import json

    manifest = Bundle(bundle).manifest
    assert from_json(Manifest, json.loads(manifest.to_json())) == manifest


@pytest.mark.parametrize("position", [0, 1000, -1])
def test_a_changed_byte_is_refused(copy, position):
    data = bytearray((copy / "fp32.onnx").read_bytes())
    data[position] ^= 1
    (copy / "fp32.onnx").write_bytes(data)
    with pytest.raises(BundleError, match="SHA-256 differs"):
        Bundle(copy).read_model("fp32")


def test_a_missing_file_is_refused(copy):
    (copy / "fp32.onnx").unlink()
    with pytest.raises(BundleError, match="No such file"):
        Bundle(copy).read_model("fp32")
    (copy / "manifest.json").unlink()
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle(copy)
    (copy / "other.onnx").touch()
    with pytest.raises(BundleError, match=r"other\.onnx is a file, not a bundle; name a directory"):
        Bundle(copy / "other.onnx")


def test_a_missing_precision_is_never_replaced(bundle):
    with pytest.raises(BundleError, match="no int8 graph, only fp32"):
        Bundle(bundle).read_model("int8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema=8), "schema 8.*upgrade"),
        (lambda m: m.pop("scale"), "scale is missing"),
        (lambda m: m["files"][0].update(halo="19"), r"files\[0\].halo is '19'"),
        (lambda m: m["files"][0].update(halo=-1), "halo is -1"),
        (lambda m: m["files"][0]["input"].update(shape=[1, 1, "h"]), "shape of 'lr' is"),
        (lambda m: m["files"][0].update(file="../fp32.onnx"), "outside the bundle"),
        (lambda m: m["files"][0].update(file="/etc/passwd"), "outside the bundle"),
        (lambda m: m["files"][0].update(file=".."), "outside the bundle"),
        (lambda m: m["files"][0].update(file="a\0b"), "outside the bundle"),
        (lambda m: m["files"][0].update(file="\ud800"), "outside the bundle"),
        (lambda m: m["files"][0].update(graph="../x"), "graph is"),
        (lambda m: m["files"][0]["parity"]["gates"][0].update(limit=10**400), "limit is"),
        (lambda m: m["files"].append(m["files"][0]), "'fp32.onnx' twice"),
        (lambda m: m.update(files=[]), "files is empty"),
        (lambda m: m.update(schema=0), "schema 0.*export it again"),
        (lambda m: m.update(scale=5), "scale is 5"),
        (lambda m: m.update(scale=2), "scale is 2 for a network of scale 4"),
        (lambda m: m["derived"].update(int4=m["derived"]["bf16"]), "derived has 'int4'"),
    ],
)
def test_a_changed_manifest_is_refused(copy, edit_manifest, change, message):
    edit_manifest(copy, change)
    with pytest.raises(BundleError, match=message):
        Bundle(copy)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: f["parity"].update(passed=False), "failed the comparison"),
        (lambda f: f["parity"]["gates"][1].update(value=1), "max_abs is 1, allowed 0.0001"),
        (lambda f: f["parity"].update(gates=[]), "failed the comparison"),
        (lambda f: f.update(parity=None), "it was not compared"),
    ],
)
def test_a_graph_that_passed_no_gate_is_read_only_if_allowed(
    copy, edit_manifest, caplog, change, reason
):
    edit_manifest(copy, lambda m: change(m["files"][0]))
    with pytest.raises(GateError, match=rf"{reason}.*allow ungated"):
        Bundle(copy).read_model("fp32")
    assert Bundle(copy, allow_ungated=True).read_model("fp32") == (copy / "fp32.onnx").read_bytes()
    assert reason in caplog.text


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_a_damaged_manifest_is_refused(copy, text):
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="is damaged"):
        Bundle(copy)


def test_a_value_nested_as_deep_as_the_parser_goes_is_refused(copy):
    """The code behind the parser may not recurse deeper than the parser."""
    path = copy / "manifest.json"
    limit = sys.getrecursionlimit()
    start, end = path.read_text().split('"fp32.onnx"')
    for depth in range(limit - 200, limit):
        path.write_text(start + "[" * depth + "]" * depth + end)
        with pytest.raises(BundleError, match="is damaged"):
            Bundle(copy)


def test_a_link_that_leads_outside_is_refused(copy):
    (copy / "fp32.onnx").rename(copy.parent / "elsewhere.onnx")
    (copy / "fp32.onnx").symlink_to("../elsewhere.onnx")
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle(copy)


def test_a_link_that_leads_to_itself_is_refused(copy):
    (copy / "fp32.onnx").unlink()
    (copy / "fp32.onnx").symlink_to("fp32.onnx")
    with pytest.raises(BundleError, match="cannot be read"):
        Bundle(copy).read_model("fp32")


def test_external_data_is_refused(copy, edit_manifest):
    path = copy / "fp32.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit_manifest(copy, lambda m: m["files"][0].update(sha256=digest))
    with pytest.raises(BundleError, match=r"keeps .* in another file"):
        Bundle(copy).read_model("fp32")


def test_a_graph_with_other_inputs_is_refused(copy, edit_manifest):
    edit_manifest(copy, lambda m: m["files"][0]["input"].update(name="x"))
    with pytest.raises(BundleError, match="other inputs and outputs"):
        Bundle(copy).read_model("fp32")


@pytest.mark.parametrize("pooled", [None, "fusion", "sr"])
def test_a_graph_that_pools_something_else_is_refused(copy, edit_manifest, pooled):
    edit_manifest(copy, lambda m: m["files"][0].update(pooled=pooled))
    with pytest.raises(BundleError, match="pools differently"):
        Bundle(copy).read_model("fp32")


def without_output(graph):
    del next(node for node in graph.node if is_global_pool(node)).output[:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_output, "has output size 0"),
        (lambda g: g.node.add(op_type="Conv", output=["x"]), "has input size 0"),
        (lambda g: g.node.add(op_type="Relu", input=["lr"], domain="com.evil"), "com.evil"),
        (lambda g: g.node.add(op_type="Relu", input=["lr"], output=["@@@@"]), "not UTF-8"),
    ],
)
def test_an_unsound_graph_whose_hash_fits_is_refused(copy, edit_manifest, change, reason):
    model = onnx.load(copy / "fp32.onnx")
    change(model.graph)
    data = model.SerializeToString().replace(b"@@@@", b"\xff@@@")
    (copy / "fp32.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    edit_manifest(copy, lambda m: m["files"][0].update(sha256=digest))
    with pytest.raises(BundleError, match=rf"is not a valid ONNX graph .*{reason}"):
        Bundle(copy).read_model("fp32")


def test_external_data_is_found_in_nested_graphs():
    tensor = onnx.numpy_helper.from_array(np.zeros(2, np.float32), "w")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    branch = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    assert external_tensors(onnx.helper.make_graph([branch], "outer", [], [])) == ["w", "w"]


def test_an_unknown_scale_is_refused():
    with pytest.raises(BundleError, match="no pretrained bundle for scale 7"):
        pretrained(7)
