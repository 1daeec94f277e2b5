"""Commands in a control group with little memory succeed or refuse; none is killed."""

import re
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest

from hfdn_deploy.images import decode_header, read_header, write_image
from tests.helpers.groups import control_group, inside
from tests.helpers.paths import ROOT
from tests.helpers.service import encoded, serving

pytestmark = pytest.mark.usefixtures("every_core")

GIBI = 2**30
HFDN = [sys.executable, "-m", "hfdn_deploy"]


@pytest.fixture(scope="module")
def vga():
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


def upscale(limit, image, folder, *options):
    """Run `hfdn upscale` at scale 4 with a limit of memory."""
    write_image(folder / "in.png", image)
    with control_group("memory", limit) as group:
        command = [*HFDN, "upscale", str(folder / "in.png"), "-o", str(folder / "out.png")]
        return subprocess.run(
            inside(group, [*command, "--precision", "int8", *options]),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )


def test_an_image_that_does_not_fit_whole_is_refused(vga, tmp_path):
    done = upscale(GIBI // 2, vga, tmp_path, "--tile", "none")
    assert done.returncode == 2
    pattern = (
        r"640×480 pixels at scale 4 need about \S+ GiB of memory whole, and 0\.[34]\d* GiB may"
    )
    assert re.search(pattern, done.stderr)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.slow
def test_vga_fits_into_a_gibibyte_in_tiles(vga, tmp_path):
    done = upscale(GIBI, vga, tmp_path)
    assert (done.returncode, "error" in done.stderr) == (0, False)
    header = read_header(tmp_path / "out.png")
    assert (header.width, header.height) == (2560, 1920)


@pytest.mark.slow
def test_a_service_of_all_models_answers_vga_in_a_gibibyte(vga):
    body = encoded(vga, ".png")
    with control_group("memory", GIBI) as group:
        process, address = serving(inside(group, [*HFDN, "serve", "--port", "0"]))
        try:
            for scale in (4, 2, 3):
                url = f"{address}/v1/upscale?scale={scale}&precision=int8"
                answer = httpx.post(url, content=body, timeout=300)
                if answer.status_code != 200:
                    assert answer.status_code in (413, 503)
                    assert answer.json()["detail"].endswith(".")
                    continue
                assert decode_header(answer.content, "").width == 640 * scale
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)
    assert process.returncode == 0
