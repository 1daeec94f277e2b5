"""Number of cases of a fuzz target: a fraction in `make test`, all of them in `make fuzz`.

A target is a hypothesis test in tests/fuzz with `@fuzz(cases)` above its `@given`. It feeds hostile
input and accepts only a correct result or an HFDNError; the conftest.py there limits its memory.
"""

import os
from datetime import timedelta

from hypothesis import HealthCheck, settings

# A hang is a failure; a working case takes far less, even on a busy machine.
_DEADLINE = timedelta(seconds=20)
_COMMON = settings(deadline=_DEADLINE, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("short", _COMMON, derandomize=True)
settings.register_profile("long", _COMMON, print_blob=True)

PROFILE = os.environ.get("FUZZ_PROFILE", "short")
_SHARE = {"short": 50, "long": 1}


def fuzz(cases: int) -> settings:
    """Return the settings of a target: all cases in `make fuzz`, a fiftieth in `make test`."""
    return settings(settings.get_profile(PROFILE), max_examples=cases // _SHARE[PROFILE])
