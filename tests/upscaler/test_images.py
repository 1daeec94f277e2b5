"""Backends that take RGB images directly, and images that they still take as luma."""

import numpy as np
import pytest

from hfdn_deploy import BackendError, Upscaler
from hfdn_deploy.backends import OnnxRuntimeBackend
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.images import Rows, open_image, write_image


class TakesImages(OnnxRuntimeBackend):
    takes_images = True

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = []

    def run(self, lr):
        self.calls.append(("luma", lr.shape))
        return super().run(lr)

    def run_images(self, images):
        self.calls.append(("images", images.shape))
        return super().run_images(images)


@pytest.fixture(scope="module")
def backend():
    return TakesImages.open(pretrained(2), "fp32")


@pytest.fixture
def up(backend):
    backend.calls.clear()
    return Upscaler(backend, "for a test")


@pytest.fixture(scope="module")
def planes():
    with Upscaler.load(2, "onnxruntime") as up:
        yield up


def test_an_image_goes_whole_and_comes_back_whole(up, planes, photo):
    result = up(photo)
    assert up.backend.calls == [("images", (1, 60, 83, 3))]
    assert result.dtype == np.uint8
    difference = np.abs(result.astype(int) - planes(photo))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_images_of_one_size_go_together(up, photo):
    turned = photo[:, ::-1]
    results = up.batch([photo, turned, photo])
    assert up.backend.calls == [("images", (3, 60, 83, 3))]
    for result, image in zip(results, [photo, turned, photo], strict=True):
        np.testing.assert_array_equal(result, up(image))


def test_the_rows_of_a_file_are_read_for_it(up, photo, tmp_path):
    write_image(tmp_path / "a.png", photo)
    rows = open_image(tmp_path / "a.png")
    assert isinstance(rows, Rows)
    result = up.stream(rows).whole()
    assert [kind for kind, _ in up.backend.calls] == ["images"]
    np.testing.assert_array_equal(result, up(photo))


@pytest.mark.parametrize(
    ("convert", "options", "call"),
    [
        (lambda x: x[..., 0], {}, {}),
        (lambda x: np.dstack([x, x[..., 0]]), {}, {}),
        (lambda x: x.astype(np.uint16) * 257, {}, {}),
        (lambda x: x / np.float32(255), {}, {}),
        (lambda x: x, {"tile": 32}, {}),
        (lambda x: x, {"ensemble": True}, {}),
        (lambda x: x, {}, {"scale": 1.5}),
    ],
    ids=["grey", "alpha", "16 bits", "floats", "tiles", "ensemble", "resized"],
)
def test_what_the_graph_does_not_take_goes_as_luma(backend, planes, photo, convert, options, call):
    backend.calls.clear()
    image = convert(photo[:40, :50])
    result = Upscaler(backend, "for a test", **options)(image, **call)
    assert "images" not in [kind for kind, _ in backend.calls]
    expected = planes(image, **call)
    assert result.shape == expected.shape
    if "ensemble" not in options:
        allowed = {"uint8": 1, "uint16": 1, "float32": 1e-5}[result.dtype.name]
        assert np.abs(result.astype(float) - expected).max() <= allowed


def test_a_wrong_shape_is_refused(up, photo, monkeypatch):
    monkeypatch.setattr(up.backend, "run_images", lambda images: images)
    with pytest.raises(BackendError, match=r"gave shape \(1, 60, 83, 3\) for 83×60 pixels"):
        up(photo)
