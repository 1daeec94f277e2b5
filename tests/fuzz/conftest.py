import resource

import pytest

_LIMIT = 2**20  # KiB


@pytest.fixture(autouse=True)
def bounded_memory():
    """No target may take more than a GiB, whatever the input says of itself."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _LIMIT
