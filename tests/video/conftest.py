import threading

import pytest
from tqdm import TMonitor

from hfdn_deploy.upscaler import Upscaler


@pytest.fixture(scope="module")
def up():
    with Upscaler.load(2, precision="int8") as upscaler:
        yield upscaler


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.enumerate()
    yield
    # tqdm keeps a monitor thread.
    assert not [t for t in threading.enumerate() if t not in before and not isinstance(t, TMonitor)]
