"""The static page in a browser: the pixels of `Upscaler`, without requests to other hosts."""

import io
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import PIL.Image
import pytest

import export.web
from export.cli import main
from export.web import TILE, write_page
from hfdn_deploy import BackendError, Upscaler
from hfdn_deploy.bundle import pretrained
from hfdn_deploy.images import decode_image
from hfdn_deploy.tiling import cut
from tests.helpers.browser import chromium, watched
from tests.helpers.paths import ROOT
from tests.helpers.service import encoded

SCALE = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("web") / "x2"
    try:
        write_page(pretrained(SCALE), output)
    except BackendError as error:
        pytest.skip(str(error))
    return output


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(folder):
    """Serve the page from a folder below the root, as many hosts do."""
    handler = partial(Quiet, directory=folder.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/{folder.name}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


def choose(page, name, data, kind="image/png"):
    page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})


def downloaded(page):
    with page.expect_download() as download:
        page.click("#download")
    return download.value.suggested_filename, download.value.path().read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "tile", "size", "tiles"),
    [(1280, TILE, (64, 48), 1), (360, 16, (60, 58), 4)],
)
def test_pixels_are_those_of_the_upscaler(browser, address, photo, width, tile, size, tiles):
    assert len(cut(*size, tile, pretrained(SCALE).entry("fp32").halo)) == tiles
    image = np.ascontiguousarray(photo[: size[1], : size[0]])
    with watched(browser, width) as watch:
        page = watch.page
        page.goto(f"{address}?tile={tile}")
        page.evaluate(
            "window.said = []; new MutationObserver(() => said.push(document.getElementById("
            "'status').textContent)).observe(document.getElementById('status'), {childList: true})"
        )
        choose(page, "cat.png", encoded(image, ".png"))
        page.get_by_text(f"{size[0]}×{size[1]} → {SCALE * size[0]}×{SCALE * size[1]}").wait_for()
        assert page.inner_text("#model") == "×2 fp32, WebAssembly"
        assert page.evaluate("said.map((text) => text.split(' ')[0])") == [
            "Loading", "Upscaling…", "Done.",
        ]  # fmt: skip
        assert page.get_attribute("#status", "aria-live") == "polite"
        assert page.is_hidden("#progress")
        assert page.is_hidden("#cancel")
        assert page.is_hidden("#api")
        name, data = downloaded(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert name == "cat_x2.png"
    result = decode_image(data, name)
    assert (result[..., 3:] == 255).all()  # canvases write RGBA
    with Upscaler.load(SCALE, "onnxruntime") as up:
        distance = np.abs(result[..., :3].astype(int) - up(image))
    assert distance.max() <= 1
    assert (distance > 0).mean() < 1e-3
    assert f"{address}tile.onnx" in watch.asked  # requests of the worker are watched, too
    assert watch.is_alone(address), watch.asked
    assert not watch.problems


@pytest.mark.slow
def test_what_goes_wrong_is_said_in_a_sentence(browser, address, photo):
    """Notes on transparency and orientation appear like error messages."""
    with watched(browser, 1280) as watch:
        page = watch.page
        page.goto(address)
        choose(page, "a.png", b"no image")
        page.get_by_text("a.png is not an image that this browser reads").wait_for()
        assert page.is_hidden("#result")

        choose(page, "wide.png", encoded(np.zeros((1, 9000, 3), np.uint8), ".png"))
        page.get_by_text("The result would have 18000×2 pixels").wait_for()

        choose(page, "large.png", encoded(np.tile(photo, (5, 5, 1)), ".png"))
        page.wait_for_selector("#progress", state="visible")
        page.click("#cancel")
        page.get_by_text("Cancelled.").wait_for()
        assert page.is_hidden("#progress")
        assert page.evaluate("document.activeElement.id") == "file"

        alpha = np.full((*photo.shape[:2], 1), 255, np.uint8)
        alpha[:, :10] = 0
        sent = np.concatenate([photo, alpha], axis=2)[:16, :24]
        choose(page, "logo.png", encoded(sent, ".png"))
        page.get_by_text("Transparency is not kept; it has become white.").wait_for()
        name, data = downloaded(page)
        white = np.where(sent[..., 3:] == 0, np.uint8(255), sent[..., :3])
        with Upscaler.load(SCALE, "onnxruntime") as up:
            distance = np.abs(decode_image(data, name)[..., :3].astype(int) - up(white))
        assert distance.max() <= 1

        loaded = watch.asked.count(f"{address}tile.onnx")
        sideways = io.BytesIO()
        exif = PIL.Image.Exif()
        exif[274] = 6
        PIL.Image.fromarray(photo[:16, :24]).save(sideways, "JPEG", exif=exif)
        choose(page, "camera.jpg", sideways.getvalue(), "image/jpeg")
        page.get_by_text("16×24 → 32×48").wait_for()
        assert watch.asked.count(f"{address}tile.onnx") == loaded  # once, for the first image
        assert watch.is_alone(address), watch.asked
        assert not watch.problems


def test_a_page_that_is_opened_as_a_file_says_what_it_needs(browser, tmp_path):
    for name in ("index.html", "page.css", "common.js"):
        shutil.copy(ROOT / "hfdn_deploy/service/page" / name, tmp_path)
    shutil.copy(ROOT / "export/page/page.js", tmp_path)
    with watched(browser, 360) as watch:
        watch.page.goto((tmp_path / "index.html").as_uri())
        watch.page.get_by_text("This page needs JavaScript, and a web server").wait_for()


def test_tiles_are_cut_as_in_python(browser, address):
    sizes = (1, 1, 128, 19), (60, 83, 16, 19), (500, 333, 128, 19), (200, 167, 100, 21)
    with watched(browser, 360) as watch:
        watch.page.goto(f"{address}tiles.js")
        found = watch.page.evaluate(
            "async (sizes) => { const { cut } = await import(location.href);"
            "return sizes.map((size) => cut(...size).map((tile) => [tile.rows, tile.across].map("
            "(span) => [span.start, span.start + span.size, span.first, span.last]))) }",
            sizes,
        )
    assert found == [
        [
            [
                [read.start, read.stop, kept.start, kept.stop]
                for read, kept in zip(tile.read, tile.kept, strict=True)
            ]
            for tile in cut(*size)
        ]
        for size in sizes
    ]


@pytest.mark.parametrize("name", ["index.html", "model.json"])
def test_a_folder_of_other_things_is_refused(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert main(["web", "x2", "-o", str(tmp_path)]) == 2
    assert "exists and is not a page of this command; name another" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_npm_a_sentence_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["web", "x2", "-o", str(tmp_path / "page")]) == 4
    said = "npm, which fetches onnxruntime-web, is not installed; install"
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_older_page_is_not_refused_and_stays_after_a_failure(folder, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(folder))
    before = sorted(folder.rglob("*"))
    assert main(["web", "x2", "-o", str(folder)]) == 4
    assert "onnxruntime-web, is not installed" in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_another_package_is_refused(tmp_path, capsys, monkeypatch):
    if not shutil.which("npm"):
        pytest.skip("no npm is installed")
    monkeypatch.setattr(export.web, "SHA512", "none")
    assert main(["web", "x2", "-o", str(tmp_path / "page")]) == 4
    said = capsys.readouterr().err
    if "npm cannot fetch" in said:
        pytest.skip(said)
    assert "is not the expected package (its SHA-512 differs)" in said
    assert not list(tmp_path.iterdir())
