import logging
import os
import tempfile

import numpy as np
import psutil
import pytest
from PIL import Image

from hfdn_deploy.cli import main
from hfdn_deploy.files import RECORD
from hfdn_deploy.images import write_image
from tests.helpers.cluster import MODEL, contents


@pytest.fixture(scope="package")
def cluster():
    """A Ray cluster of several processes on this machine; it must leave no process behind."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    before = psutil.Process().children(recursive=True)
    # Socket paths are limited to 107 bytes; pytest's own folders may be too deep.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            "local", num_cpus=2, include_dashboard=False, object_store_memory=2**28,
            log_to_driver=False, logging_level=logging.ERROR, _temp_dir=folder,
        )  # fmt: skip
        started = [p for p in psutil.Process().children(recursive=True) if p not in before]
        yield ray
        ray.shutdown()
        assert not psutil.wait_procs(started, timeout=20)[1]


@pytest.fixture(scope="package")
def pictures(tmp_path_factory, photo):
    """A folder of images of all kinds, one of them damaged, and a text file."""
    folder = tmp_path_factory.mktemp("pictures") / "in"
    for i in range(4):
        write_image(folder / f"{i}.png", photo[i : i + 20, : 24 + i])
    write_image(folder / "deep.tif", photo[:9, :11].astype(np.uint16) * 257)
    write_image(folder / "alpha.webp", np.dstack([photo[:12, :10], photo[:12, :10, 0]]))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Maker"
    Image.fromarray(photo[:20, :30]).save(folder / "turned.jpg", exif=exif)
    (folder / "note.txt").write_text("no image, and not named as one")
    (folder / "poison.png").write_bytes((folder / "0.png").read_bytes()[:300])
    return folder


@pytest.fixture(scope="package")
def local(pictures):
    """The outputs of `hfdn upscale` without a cluster: bytes by name."""
    out = pictures.parent / "local"
    assert main(["upscale", str(pictures), "-o", str(out), *MODEL]) == 1
    found = contents(out)
    del found[RECORD]
    return found
