import resource

import pytest

_LIMIT = 2**20  # KiB


@pytest.fixture(autouse=True)
def bounded_memory():
    """Limit every target to a GiB of memory, whatever sizes the input declares."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < _LIMIT
