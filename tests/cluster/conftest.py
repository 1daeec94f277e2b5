import logging
import os
import tempfile

import psutil
import pytest


@pytest.fixture(scope="package")
def cluster():
    """A Ray cluster of several processes on this machine, which leaves nothing behind."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    # Its sockets' names may have 107 bytes, which pytest's own folders can use up.
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            "local", num_cpus=4, include_dashboard=False, object_store_memory=2**28,
            log_to_driver=False, logging_level=logging.ERROR, _temp_dir=folder,
        )  # fmt: skip
        started = psutil.Process().children(recursive=True)
        yield ray
        ray.shutdown()
        assert not psutil.wait_procs(started, timeout=20)[1]
