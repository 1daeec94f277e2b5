"""Requests whose bodies are forms, or claim to be, in any chunks."""

from itertools import pairwise

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfdn_deploy.images import decode_header
from tests.helpers.mutations import damaged
from tests.helpers.profiles import fuzz
from tests.helpers.service import encoded, running

IMAGE = encoded(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), ".png")


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return a form with these headers and contents."""
    bodies = (f"--x\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts)
    return b"".join(bodies) + b"--x--\r\n"


FILE = 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
OTHER = "Content-Disposition: form-data; name=image; filename*=UTF-8''%e2%82%ac"
FIELD = 'Content-Disposition: form-data; name="scale"'
FORMS = [
    form((FILE, IMAGE)),
    form((OTHER, IMAGE)),
    form((FILE, IMAGE), (FIELD, b"2")),
    form((FILE, IMAGE), (FILE, IMAGE)),
    form((FILE, b"")),
    form(),
]
TYPES = [b"multipart/form-data; boundary=x", b'Multipart/Form-Data; charset=utf-8; boundary="x"']


@pytest.fixture(scope="module")
def client():
    url = "http://127.0.0.1:{}"
    with (
        running(body_bytes=2000) as served,
        httpx.Client(base_url=url.format(served.port), timeout=60) as client,
    ):
        yield client


def send(client, kind, body, places):
    """Send a body in chunks that end at these offsets."""
    places = sorted({0, len(body), *(min(place, len(body)) for place in places)})
    pieces = [body[start:end] for start, end in pairwise(places)]
    headers = {b"content-type": kind}
    return client.post("/v1/upscale", content=iter(pieces), headers=headers)


def test_sound_forms_in_single_bytes(client):
    for kind in TYPES:
        answer = send(client, kind, FORMS[0], range(len(FORMS[0])))
        header = decode_header(answer.content, "")
        assert (answer.status_code, header.width, header.height) == (200, 10, 8)


@fuzz(3000)
@given(
    kind=st.one_of(st.sampled_from(TYPES), damaged(TYPES)),
    body=damaged(FORMS),
    places=st.lists(st.integers(0, 400), max_size=4),
)
def test_any_form_is_an_image_or_refused(client, kind, body, places):
    try:
        answer = send(client, kind, body, places)
    except httpx.LocalProtocolError:  # the client cannot send this header
        return
    if answer.status_code == 200:
        assert decode_header(answer.content, "").width > 0
        return
    assert answer.status_code in (400, 413, 415, 422)
    assert answer.json()["detail"].endswith(".")
