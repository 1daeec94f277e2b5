"""How long a fuzz target runs: a slice in `make test`, all of it in `make fuzz`.

A target is a test of hypothesis in this folder with `@fuzz(cases)` above its `@given`. It feeds
hostile input and lets nothing pass but a right result or one of our errors; what it may take of
memory is watched by conftest.py.
"""

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

# A hung case is a failure; nothing here should come near this on a busy machine.
_DEADLINE = timedelta(seconds=20)
_COMMON = settings(deadline=_DEADLINE, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("short", _COMMON, derandomize=True)
settings.register_profile("long", _COMMON, print_blob=True)

PROFILE = os.environ.get("FUZZ_PROFILE", "short")
_SHARE = {"short": 50, "long": 1}


def fuzz(cases: int) -> settings:
    """Settings of a target: so many cases in `make fuzz`, a fiftieth in `make test`."""
    return settings(settings.get_profile(PROFILE), max_examples=cases // _SHARE[PROFILE])
