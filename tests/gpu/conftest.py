import gc

import pytest

from hfdn_deploy.engines import why_unavailable
from tests.helpers.gpu import real_gpu


@pytest.fixture(autouse=True)
def gpu(request):
    """Yield a simulated GPU and check it for leaks and undefined use; None with a real GPU.

    Tests without the marker `gpu` test the simulation, and get it even with a real GPU.
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
            # Garbage must not be collected while the next simulated GPU is active.
            gc.collect()
    if "test_simulated_gpu" not in request.node.nodeid:
        assert simulated.violations == []
        # A broken context cannot free memory.
        assert simulated.leaks() == {} or simulated.sticky


@pytest.fixture(scope="session")
def small_bundles(tmp_path_factory):
    """Return bundles of a small network by scale."""
    from tests.helpers.small_bundle import write_small_bundle

    folder = tmp_path_factory.mktemp("bundles")
    return {scale: write_small_bundle(folder / f"x{scale}", scale) for scale in (2, 4)}
