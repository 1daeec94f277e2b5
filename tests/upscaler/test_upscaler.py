import copy
import pickle
import re
import resource
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from hfdn_deploy import BackendError, BundleError, CheckpointError, InputError, Upscaler, backends
from hfdn_deploy.bench import psnr
from hfdn_deploy.images import ImagePlanes


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_every_kind_keeps_its_kind(bundle, photo, dtype, channels):
    image = np.dstack([photo, photo[..., :1]])[:20, :22]
    image = image[..., 0] if channels is None else image[..., -channels:]
    white = {"uint8": 1, "uint16": 257, "float32": 1 / 255}[dtype]
    with Upscaler.load(bundle) as up:
        big = up((image.astype(float) * white).astype(dtype))
        small = up(image)
    assert big.dtype == dtype
    assert big.shape == (80, 88, *image.shape[2:])
    assert np.abs(big / white - small).max() <= 0.51


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 2)])
def test_smallest_images(bundle, size):
    with Upscaler.load(bundle) as up:
        assert up(np.full((*size, 3), 77, np.uint8)).shape == (4 * size[0], 4 * size[1], 3)


def test_onnxruntime_equals_the_reference(bundle, checkpoint, photo):
    with Upscaler.load(bundle, "onnxruntime") as fast, Upscaler.load(checkpoint) as reference:
        assert fast.choice == "onnxruntime (asked for)"
        assert reference.choice.startswith("torch (not cuda: ")
        luma = ImagePlanes(photo).luma
        difference = fast.upscale_luma(luma) - reference.upscale_luma(luma)
        assert np.abs(difference).max() <= 1e-4
        assert psnr(fast(photo)[..., 0], reference(photo)[..., 0]) > 60


def test_an_explicit_backend_is_never_replaced(bundle, checkpoint):
    with pytest.raises(BackendError, match="install onnxruntime-gpu"):
        Upscaler.load(bundle, backend="cuda")
    with pytest.raises(BackendError, match="not torch: it runs checkpoints"):
        Upscaler.load(bundle, backend="torch")
    with pytest.raises(BackendError, match="python -m export"):
        Upscaler.load(checkpoint, backend="onnxruntime")
    with pytest.raises(BackendError, match="no backend 'tensorflow'"):
        Upscaler.load(bundle, backend="tensorflow")
    with pytest.raises(BackendError, match="torch runs fp32, not int8"):
        Upscaler.load(checkpoint, precision="int8")
    with pytest.raises(BundleError, match="no fp16 graph"):
        Upscaler.load(bundle, precision="fp16")


def test_wrong_models(tmp_path):
    with pytest.raises(BundleError, match="is no bundle"):
        Upscaler.load(tmp_path)
    pytest.importorskip("torch", exc_type=ModuleNotFoundError)
    with pytest.raises(CheckpointError, match="does not exist"):
        Upscaler.load(tmp_path / "a.safetensors")


def test_ensemble_is_the_mean_over_the_symmetries_of_the_square(bundle, photo):
    luma = ImagePlanes(photo[:13, :18]).luma
    with Upscaler.load(bundle) as up, Upscaler.load(bundle, ensemble=True) as plus:
        flips = [lambda x: x, np.flipud, np.fliplr, lambda x: x[::-1, ::-1]]
        outputs = [flip(up.upscale_luma(np.ascontiguousarray(flip(luma)))) for flip in flips]
        outputs += [flip(up.upscale_luma(np.ascontiguousarray(flip(luma).T)).T) for flip in flips]
        averaged = plus.upscale_luma(luma)
        assert np.abs(averaged - np.mean(outputs, axis=0)).max() < 1e-6
        assert np.abs(outputs[0] - averaged).max() > 1e-4
        turned = plus.upscale_luma(np.ascontiguousarray(np.rot90(luma)))
        assert np.abs(np.rot90(averaged) - turned).max() < 1e-5


def test_closed_is_closed(bundle):
    with Upscaler.load(bundle) as up:
        up.close()
    with pytest.raises(BackendError, match="is closed"):
        up(np.zeros((2, 2), np.uint8))


def test_a_broken_installation_is_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    assert "pip uninstall onnxruntime" in str(backends.why_unavailable("onnxruntime"))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "hfdn-deploy[torch]" in str(backends.why_unavailable("torch"))


def test_a_batch_equals_its_images(bundle, photo):
    images = [
        photo,
        photo[::-1],
        photo[..., 0],
        np.dstack([photo, photo[..., 0]]) / np.float32(255),
    ]
    for ensemble in (False, True):
        with Upscaler.load(bundle, ensemble=ensemble) as up:
            images = [image[:9, :11] for image in images]
            for image, big in zip(images, up.batch(images), strict=True):
                tolerance = 1e-5 if image.dtype == np.float32 else 1
                assert np.abs(big.astype(float) - up(image)).max() <= tolerance
            assert up.batch([]) == []
            with pytest.raises(InputError, match="images of one size"):
                up.batch([photo, photo[:9]])


def test_a_batch_on_an_engine_for_single_pictures(bundle, photo, monkeypatch):
    images = [photo[:9, :11], photo[9:18, :11]]
    with Upscaler.load(bundle, "onnxruntime") as up:
        expected, run, numbers = up.batch(images), up.backend.run, []

        monkeypatch.setattr(up.backend, "run", lambda lr: numbers.append(len(lr)) or run(lr))
        monkeypatch.setattr(up.backend, "max_batch", lambda height, width: 1)
        np.testing.assert_array_equal(up.batch(images), expected)
        assert numbers == [1, 1]


def test_eight_threads_get_the_right_answers(bundle, photo):
    sizes = [(8 + i % 4, 6 + i % 3) for i in range(48)]
    images = [np.roll(photo, 5 * i, i % 2)[:h, :w] for i, (h, w) in enumerate(sizes)]
    images = [image if i % 5 else image[..., 0] for i, image in enumerate(images)]
    with Upscaler.load(bundle) as up:
        expected = [up(image) for image in images]
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(up, images))
    for result, right in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, right)


def test_arrays_however_they_lie_in_memory(bundle, photo):
    image = np.dstack([photo, photo[..., 0]])[:8, :9]
    with Upscaler.load(bundle) as up:
        for dtype in ("uint8", "uint16", "float32"):
            typed = image.astype(dtype) / (np.float32(255) if dtype == "float32" else 1)
            typed = typed.astype(dtype)
            expected = up(typed)
            frozen = typed.copy()
            frozen.setflags(write=False)
            wide = np.zeros((16, 27, 4), dtype)
            wide[::2, ::3] = typed
            memory = np.zeros(typed.nbytes + 1, np.uint8)
            unaligned = memory[1:].view(dtype).reshape(typed.shape)
            unaligned[...] = typed
            for other in (
                typed[::-1, ::-1].copy()[::-1, ::-1],
                np.asfortranarray(typed),
                frozen,
                wide[::2, ::3],
                unaligned,
                typed.astype(typed.dtype.newbyteorder(">")),
                typed.view(type("Subclass", (np.ndarray,), {})),
            ):
                before = other.copy()
                big = up(other)
                assert big.dtype == other.dtype
                np.testing.assert_array_equal(big, expected)
                np.testing.assert_array_equal(other, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[1, 2]], "NumPy array, not list"),
        (None, "NumPy array, not NoneType"),
        (np.zeros((0, 4), np.uint8), "no pixel"),
        (np.zeros((4, 0, 3), np.uint8), "no pixel"),
        (np.zeros((4, 5, 0), np.uint8), "neither"),
        (np.zeros((4, 5, 5), np.uint8), "neither"),
        (np.array(3, np.uint8), "neither"),
        (np.zeros((2, 2), bool), "pixels are bool"),
        (np.zeros((2, 2), np.int8), "pixels are int8"),
        (np.zeros((2, 2), np.float64), "pixels are float64"),
        (np.zeros((2, 2), np.float16), "pixels are float16"),
        (np.zeros((2, 2), complex), "pixels are complex128"),
        (np.zeros((2, 2), object), "pixels are object"),
        (np.zeros((2, 2), "datetime64[s]"), "pixels are datetime64"),
        (np.zeros((2, 2), [("x", "u1")]), "pixels are"),
        (np.full((2, 2), np.nan, np.float32), "range from nan"),
        (np.array([[0, np.inf]], np.float32), "to inf"),
        (np.array([[0, -np.inf]], ">f4"), "from -inf"),
        (np.array([[0, 255]], np.float32), "scale them to 0..1"),
        (np.broadcast_to(np.float32(0.5), (1 << 28, 1 << 28, 3)), "GiB may be used"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_unusable_arrays(bundle, image, message):
    with Upscaler.load(bundle) as up, pytest.raises(InputError, match=message):
        up(image)


@pytest.mark.parametrize(
    ("shape", "message"), [((5,), "neither"), ((3, 4, 5), "neither"), ((0, 3), "no pixel")]
)
def test_a_plan_is_for_an_image(bundle, shape, message):
    with Upscaler.load(bundle) as up, pytest.raises(InputError, match=message):
        up.plan(shape)


class Broken(backends.Backend):
    name = "broken"
    scale = 4

    def __init__(self, output):
        self.output = output

    def run(self, lr):
        return self.output

    def close(self):
        pass


def test_outputs_are_checked():
    image = np.zeros((2, 3), np.uint8)
    with pytest.raises(BackendError, match=r"shape \(1, 1, 8, 8\) for 3×2"):
        Upscaler(Broken(np.zeros((1, 1, 8, 8), np.float32)), "")(image)
    with pytest.raises(BackendError, match="NaN"):
        Upscaler(Broken(np.full((1, 1, 8, 12), np.nan, np.float32)), "")(image)


@pytest.mark.parametrize("tile", [None, 64, "auto"])
def test_an_image_too_large_for_memory_is_refused_before_it_runs(bundle, tile):
    # Its result alone would be half as large again as all the memory.
    side = int((psutil.virtual_memory().total / 2 / 16) ** 0.5)
    with Upscaler.load(bundle, tile=tile) as up:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(InputError, match=r"GiB of memory .* may be used"):
            up(np.broadcast_to(np.uint8(9), (side, side, 3)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1000  # KiB


def test_it_belongs_to_its_process(bundle):
    with Upscaler.load(bundle) as up:
        for spread in (pickle.dumps, copy.copy):
            with pytest.raises(InputError, match="load it in the worker"):
                spread(up)


def test_what_is_no_model():
    for model in (b"x4", [4]):
        message = re.escape(f"{model} is not a model; give a scale or a path")
        with pytest.raises(InputError, match=message):
            Upscaler.load(model)
    with pytest.raises(BackendError, match="it runs bundles, not checkpoints"):
        Upscaler.load("net.PTH", "onnxruntime")


def test_a_batch_may_be_one_array(bundle, photo):
    images = np.stack([photo[:9, :8], photo[20:29, 30:38]])
    with Upscaler.load(bundle) as up:
        found = up.batch(images)
        assert all(map(np.array_equal, found, map(up, images)))


@pytest.mark.parametrize(
    ("level", "told"), [("INFO", "onnxruntime"), ("DEBUG", "onnxruntime (asked for)")]
)
def test_the_backend_is_told(bundle, caplog, level, told):
    caplog.set_level(level, "hfdn_deploy")
    Upscaler.load(bundle, "onnxruntime").close()
    assert caplog.messages == [f"backend: {told}"]


def test_the_runtime_needs_no_torch(bundle):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, hfdn_deploy\n"
        f"with hfdn_deploy.Upscaler.load({str(bundle)!r}) as up:\n"
        "    assert up(np.zeros((3, 4), np.uint8)).shape == (12, 16)\n"
        "assert not [m for m in sys.modules if m.startswith('torch.')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
