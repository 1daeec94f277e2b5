import http.client
import re
from importlib.resources import files
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image

from hfdn_deploy import Upscaler
from hfdn_deploy.errors import InputError
from hfdn_deploy.images import Metadata, decode_header, decode_image, write_image
from hfdn_deploy.service import Limits, RequestError
from tests.helpers.images import SAMPLES, raw_png
from tests.helpers.metadata import SRGB
from tests.helpers.paths import ROOT
from tests.helpers.service import encoded, running


@pytest.fixture(scope="module")
def up():
    with Upscaler.load(2, precision="int8") as up:
        yield up


def test_what_comes_back_is_what_the_upscaler_gives(served, photo, up):
    small = photo[:16, :24]
    rgba = np.dstack([small, np.full(small.shape[:2], 90, np.uint8)])
    for image in (small, small[..., 0], rgba, small.astype(np.uint16) * 257):
        answer = served.post(encoded(image, ".png"))
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["hfdn-model"] == "x2 int8 openvino"
        assert re.fullmatch(
            r"decode;dur=[\d.]+, queue;dur=[\d.]+, upscale;dur=[\d.]+, encode;dur=[\d.]+",
            answer.headers["server-timing"],
        )
        np.testing.assert_array_equal(decode_image(answer.content, ""), up(image))


def test_form_and_formats(served, photo, png):
    for suffix, kind in ((".png", "png"), (".jpg", "jpeg"), (".webp", "webp")):
        form = {"image": ("../../etc/passwd", encoded(photo[:16, :24], suffix))}
        answer = served.post(None, files=form)
        assert answer.headers["content-type"] == f"image/{kind}"
        assert decode_header(answer.content, "").format.lower() == kind
        answer = served.post(png, params={"format": kind, "scale": 2, "precision": "int8"})
        header = decode_header(answer.content, "")
        assert (header.format.lower(), header.width, header.height) == (kind, 48, 32)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_the_colours_of_an_image_stay_what_they_are(served, photo, tmp_path, form):
    write_image(tmp_path / "a.png", photo[:16, :24], Metadata(icc=SRGB, comments=(b"Home",)))
    answer = served.post((tmp_path / "a.png").read_bytes(), params={"format": form})
    header = decode_header(answer.content, "")
    assert header.metadata.icc == SRGB
    assert not header.metadata.texts + header.metadata.comments


def bomb(width, height):
    """Return a small PNG whose header declares this size; its pixels are compressed zeros."""
    return raw_png((width, height), (8, 0, 0), bytes(10**6))


def without_a_row():
    """Yield PNGs without their last row: 8×8, grey, RGB, palette, grey with alpha and RGBA."""
    for colour, samples in SAMPLES.items():
        row = b"\0" + b"\x80" * (8 * samples)
        yield raw_png((8, 8), (8, colour, 0), 7 * row)


def test_bad_requests_get_their_status_and_the_service_lives(served, png, photo):
    rgba = encoded(np.dstack([photo[:8, :8], photo[:8, :8, :1]]), ".png")
    form = {"files": {"image": png}}
    no_form = {"headers": {"content-type": "multipart/form-data"}}
    for status, words, data, options in [
        (413, "far too many pixels", bomb(60000, 60000), {}),
        (413, "4096×4096 pixels, 16,777,216, and", bomb(4096, 4096), {}),
        (415, "send a PNG, JPEG or WebP", b"hello, world", {}),
        (415, "send a PNG", None, {"files": {"image": b"hello, world"}}),
        (400, "truncated or damaged", bomb(1001, 1000), {}),
        (400, "truncated or damaged", png[:-200], {}),
        (400, "truncated or damaged", raw_png((1, 100_000), (8, 2, 0), bytes(100)), {}),
        *((400, "truncated or damaged", short, {}) for short in without_a_row()),
        (400, "there is no image", b"", {}),
        (400, "there is no image", None, {"files": {"photo": png}}),
        (400, "in the query", None, {**form, "data": {"scale": "2"}}),
        (400, "the form cannot be used", b"x", no_form),
        (422, "choose scale 2 in int8", png, {"params": {"scale": 4}}),
        (422, "choose scale 2 in int8", png, {"params": {"precision": "fp32"}}),
        (422, "format is 'gif'", png, {"params": {"format": "gif"}}),
        (422, "cannot hold transparency", rgba, {"params": {"format": "jpeg"}}),
    ]:  # fmt: skip
        answer = served.post(data, **options)
        assert answer.status_code == status, (answer.text, words)
        assert words in answer.json()["detail"]
        assert served.get("/healthz").json() == {"status": "ok"}
    assert served.post(png).status_code == 200


def test_parameters_that_are_not_known_are_refused(served, png):
    for params, words in [
        ({"scales": 2}, "parameter 'scales' is unknown; use scale, precision, format."),
        ({"scale": 2, "": ""}, "parameter '' is unknown; use"),
        ([("scale", 2), ("scale", 2)], "parameter scale is repeated"),
        ({"scale": "two"}, "scale is 'two': "),
        ({"scale": ""}, "scale is '': "),
    ]:
        answer = served.post(png, params=params)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
    answer = served.get("/v1/models?verbose=1")
    assert answer.status_code == 422
    assert "parameter 'verbose' is unknown; this address takes none" in answer.json()["detail"]


def test_a_slash_at_the_end_changes_nothing(served, png):
    url = f"http://127.0.0.1:{served.port}"
    answer = httpx.post(f"{url}/v1/upscale/", content=png, timeout=60)
    assert (answer.status_code, answer.content) == (200, served.post(png).content)
    for path in ("/v1/models", "/healthz"):
        answer = served.get(f"{path}/")
        assert (answer.status_code, answer.content) == (200, served.get(path).content)
    assert 'hfdn_requests_total{status="200"}' in served.get("/metrics/").text


def test_head_has_the_headers_of_get(served):
    url = f"http://127.0.0.1:{served.port}"
    for path in ("/", "/page.js", "/docs", "/openapi.json", "/v1/models", "/healthz"):
        head, get = httpx.head(url + path), httpx.get(url + path)
        assert (head.status_code, head.content) == (200, b"")
        assert [pair for pair in head.headers.multi_items() if pair[0] != "date"] == [
            pair for pair in get.headers.multi_items() if pair[0] != "date"
        ]
        assert int(head.headers["content-length"]) == len(get.content) > 0
    head, get = httpx.head(f"{url}/v1/upscale"), httpx.get(f"{url}/v1/upscale")
    assert (head.status_code, head.headers["allow"]) == (405, "POST")
    assert get.status_code == 405
    with running(token="word") as asks:
        head = httpx.head(f"http://127.0.0.1:{asks.port}/v1/models")
        assert (head.status_code, head.headers["www-authenticate"]) == (401, "Bearer")


def test_an_error_of_the_service_is_json_too(served, png, monkeypatch):
    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(served.service.models, "choose", fail)
    answer = served.post(png)
    assert answer.status_code == 500
    assert answer.json() == {"detail": "the service failed; see its log for the reason."}


def test_what_the_format_cannot_hold_is_not_upscaled(served, png, photo):
    def images():
        return re.findall(r"^hfdn_images_total.* (.+)$", served.get("/metrics").text, re.MULTILINE)

    assert served.post(png).status_code == 200
    before = images()
    deep = encoded(photo[:8, :8].astype(np.uint16), ".png")
    answer = served.post(deep, params={"format": "webp"})
    assert answer.status_code == 422
    assert "cannot hold uint16 pixels" in answer.json()["detail"]
    assert images() == before != []


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_100_mb(served, png, declared):
    megabyte = bytes(2**20)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    headers = {"Content-Length": str(100 * 2**20)} if declared else {}
    connection.request("POST", "/v1/upscale", (megabyte for _ in range(100)), headers)
    answer = connection.getresponse()
    assert answer.status == 413
    assert b"larger than 16,777,216 bytes" in answer.read()
    connection.close()
    assert served.post(png).status_code == 200


def test_limits_are_checked_and_count_the_output():
    limits = Limits(pixels=100, output_pixels=200)
    limits.check_size(10, 5, 2)
    for size, words in (((11, 10, 1), "110, and 100"), ((10, 6, 2), "240 at scale 2, and 200")):
        with pytest.raises(RequestError, match=words) as caught:
            limits.check_size(*size)
        assert caught.value.status == 413
    with pytest.raises(InputError, match="queue is 0"):
        Limits(queue=0)


def test_a_jpeg_with_further_pictures_is_a_jpeg(photo):
    file = BytesIO()
    first, second = (Image.fromarray(photo[:h, :24]) for h in (16, 8))
    first.save(file, "MPO", save_all=True, append_images=[second])
    header = decode_header(file.getvalue(), "")
    assert (header.format, header.width, header.height) == ("JPEG", 24, 16)


def test_token(png):
    with running(token="geheim-ü") as served:
        assert served.get("/").status_code == served.get("/healthz").status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": b"Bearer \xff"}):
            for answer in (
                served.get("/v1/models", headers=headers),
                served.get("/metrics", headers=headers),
                served.post(png, headers=headers),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
        right = {"authorization": "Bearer geheim-ü".encode("latin-1")}
        assert served.post(png, headers=right).status_code == 200


def test_what_may_be_asked(served, png):
    served.post(png)
    facts = served.get("/v1/models").json()
    assert [(m["scale"], m["precision"]) for m in facts["models"]] == [(2, "int8")]
    assert facts["limits"]["body_bytes"] == 16 * 2**20
    text = served.get("/metrics").text
    assert re.search(r'^hfdn_requests_total\{status="200"\} [1-9]', text, re.M)
    assert re.search(r'^hfdn_images_total\{precision="int8",scale="2"\} [1-9]', text, re.M)
    assert "hfdn_queue 0.0" in text
    named = re.findall(r"^\| `(hfdn_\w+)", (ROOT / "docs/reference/http.md").read_text(), re.M)
    types = dict(re.findall(r"^# TYPE (hfdn_\w+) (\w+)", text, re.M))
    assert set(named) == {name for name in types if not name.endswith("_created")}
    api = served.get("/openapi.json").json()
    health = {"/livez", "/readyz", "/healthz"}
    assert set(api["paths"]) == {"/v1/upscale", "/v1/models", "/metrics"} | health
    for path in ("/../../etc/passwd", "/page.js/../../app.py", "/static/x"):
        assert served.get(path).status_code == 404


def test_pages_take_nothing_from_the_network():
    pages = list(files("hfdn_deploy.service").joinpath("page").iterdir())
    assert len(pages) == 7
    for page in pages:
        text = page.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w+\.\w", text), page.name
