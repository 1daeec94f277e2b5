"""The page in a browser, with a real upload; skipped without Chromium."""

import pytest

from hfdn_deploy.images import decode_header
from hfdn_deploy.options import ModelOptions
from hfdn_deploy.service import ModelSettings
from tests.helpers.browser import chromium, watched
from tests.helpers.service import encoded, running


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address():
    models = tuple(ModelOptions(model=scale, precision="int8") for scale in (4, 2))
    with running(ModelSettings(models), token="word") as served:
        yield f"http://127.0.0.1:{served.port}"


@pytest.mark.parametrize("width", [1280, 360])
def test_upload_compare_download(browser, address, photo, width):
    with watched(browser, width) as watch:
        page = watch.page
        page.goto(address)

        page.get_by_text("requires a token").wait_for()
        page.fill("#token", "word")
        page.press("#token", "Tab")
        page.wait_for_selector("#scales label")
        assert page.is_checked("input[name=scale][value='4']")

        picture = {"name": "cat.png", "mimeType": "image/png", "buffer": encoded(photo, ".png")}
        page.set_input_files("#file", picture)
        page.get_by_text("83×60 → 332×240").wait_for()
        assert page.inner_text("#compute").endswith(" ms")
        assert "×4 int8 openvino" in page.inner_text("#model")

        # With the keyboard: another scale, then the slider.
        page.focus("input[name=scale][value='4']")
        page.keyboard.press("ArrowLeft")
        page.get_by_text("83×60 → 166×120").wait_for()
        page.focus("#slider")
        page.keyboard.press("Home")
        assert page.eval_on_selector("#compare", "e => e.style.getPropertyValue('--at')") == "0%"
        page.keyboard.press("End")
        assert page.eval_on_selector("#compare", "e => e.style.getPropertyValue('--at')") == "100%"

        with page.expect_download() as download:
            page.click("#download")
        assert download.value.suggested_filename == "cat_x2.png"
        header = decode_header(download.value.path().read_bytes(), "")
        assert (header.format, header.width, header.height) == ("PNG", 166, 120)

        text = {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"}
        page.set_input_files("#file", text)
        page.get_by_text("415: the body is not").wait_for()
        assert page.is_hidden("#result")
        assert page.get_attribute("#download", "href") is None
        page.set_input_files("#file", picture)
        page.get_by_text("83×60 → 166×120").wait_for()
        assert page.is_visible("#result")

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.goto(f"{address}/docs")
        page.get_by_text("POST /v1/upscale").wait_for()
        assert watch.is_alone(address), watch.asked
        assert not watch.problems
