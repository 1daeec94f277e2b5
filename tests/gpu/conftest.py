import gc

import pytest

from hfdn_deploy.engines import why_unavailable
from tests.helpers.gpu import real_gpu


@pytest.fixture(autouse=True)
def gpu(request):
    """A simulated GPU, on which nothing may leak or be undefined; None where there is a real one.

    Tests without the marker `gpu` are about the simulation and have it everywhere.
    """
    real = request.node.get_closest_marker("gpu") and real_gpu()
    if request.node.get_closest_marker("real_gpu") and not real:
        pytest.skip("it needs a real GPU")
    if real:
        yield None
        return
    if reason := why_unavailable("rtx"):
        pytest.skip(reason)
    from tests.helpers.simulated_cuda import simulated_gpu

    with simulated_gpu() as simulated:
        yield simulated
        if simulated.leaks():
            # What waits for the collector must not be freed by the next GPU.
            gc.collect()
    if "test_simulated_gpu" not in request.node.nodeid:
        assert simulated.violations == []
        # A context that broke frees nothing.
        assert simulated.leaks() == {} or simulated.sticky


@pytest.fixture(scope="session")
def small_bundles(tmp_path_factory):
    """Bundles of a small network by scale."""
    from tests.helpers.small_bundle import write_small_bundle

    folder = tmp_path_factory.mktemp("bundles")
    return {scale: write_small_bundle(folder / f"x{scale}", scale) for scale in (2, 4)}
