"""The backend torch-cuda with the CPU as its device.

tests/gpu covers CUDA graphs and page-locked memory.
"""

import shutil

import numpy as np
import pytest

from hfdn_deploy import BackendError, BundleError, GateError, Upscaler, tiling
from hfdn_deploy.backends import TorchCudaBackend, why_unavailable
from hfdn_deploy.bench import PEAK
from hfdn_deploy.bundle import Bundle, pretrained, pretrained_scales
from hfdn_deploy.images import ImagePlanes
from tests.helpers.backends import opened
from tests.helpers.paths import ROOT

torch = pytest.importorskip("torch", exc_type=ModuleNotFoundError)
network = pytest.importorskip("hfdn_deploy.network")

# Largest difference of luma from fp32, in 8-bit levels.
LEVELS = {"fp32": 0.005, "fp16": 0.5, "bf16": 4}


def on_cpu(scale, precision):
    loaded = network.load_bundle(pretrained(scale))
    return TorchCudaBackend(loaded, precision, "cpu")


@pytest.mark.parametrize("scale", pretrained_scales())
def test_a_bundle_has_the_function_of_its_checkpoint(photo, scale):
    lr = torch.from_numpy(ImagePlanes(photo).luma[None, None])
    checkpoint = network.load_checkpoint(ROOT / "checkpoints" / f"hfdn_x{scale}.safetensors")
    difference = network.load_bundle(pretrained(scale))(lr) - checkpoint(lr)
    assert difference.abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("precision", LEVELS)
@pytest.mark.parametrize("scale", pretrained_scales())
def test_each_precision_is_near_the_reference(photo, scale, precision):
    lr = np.ascontiguousarray(ImagePlanes(photo[:36, :50]).luma[None, None])
    backend = on_cpu(scale, precision)
    expected = opened(("onnxruntime", "fp32"), scale).run(lr)
    got = backend.run(lr)
    assert got.dtype == np.float32
    departure = PEAK * np.abs(got - expected).max()
    assert departure <= LEVELS[precision]
    # Fewer bits must show, or the precision is not used.
    assert precision == "fp32" or departure > 0.01
    parts = backend.tiling
    tiles = tiling.cut(*lr.shape[2:], 16, parts.halo)
    for split in (None, parts.split):
        tiled = np.concatenate(list(tiling.upscale(parts, lr[0, 0], tiles, split=split)))
        assert PEAK * np.abs(tiled - got[0, 0]).max() <= LEVELS[precision]


@pytest.mark.parametrize("scale", pretrained_scales())
def test_images_go_from_pixels_to_pixels(photo, scale):
    with Upscaler.load(scale, "onnxruntime") as planes:
        expected = planes(photo)
    backend = on_cpu(scale, "fp32")
    backend.run = None  # luma must not run alone
    up = Upscaler(backend, "for a test")
    difference = np.abs(up(photo).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    # PyTorch sums in another order for a batch, so values between two levels may round otherwise.
    difference = np.abs(up.batch([photo, photo[::-1]])[1].astype(int) - up(photo[::-1]))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4


def test_bf16_that_fails_the_gates_of_its_bundle_is_refused():
    assert TorchCudaBackend.name == "torch-cuda"
    with pytest.raises(GateError, match="largest_expected_loss_db"):
        TorchCudaBackend.open(pretrained(2), "bf16")


def test_what_it_has_not_is_refused():
    with pytest.raises(BackendError, match="runs fp32, fp16, bf16, not int8"):
        TorchCudaBackend.open(pretrained(2), "int8")
    if not torch.cuda.is_available():
        assert "finds no GPU" in why_unavailable("torch-cuda").reason
        with pytest.raises(BackendError, match="not torch-cuda: PyTorch finds no GPU"):
            Upscaler.load(4, "torch-cuda")


def test_another_network_in_a_bundle_is_refused(tmp_path, edit_manifest):
    copy = shutil.copytree(pretrained(4).path, tmp_path / "copy")
    edit_manifest(copy, lambda m: m["configuration"].update(supervision="d"))
    with pytest.raises(BundleError, match="no graph of an HFDN that PyTorch runs"):
        network.load_bundle(Bundle(copy))


def test_an_error_of_pytorch_names_the_input():
    backend = on_cpu(2, "fp32")
    with pytest.raises(BackendError, match=r"PyTorch failed on an input of shape \(1, 2, 8, 8\)"):
        backend.run(np.zeros((1, 2, 8, 8), np.float32))
