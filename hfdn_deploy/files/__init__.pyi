from .planning import (
    Job,
    check_names,
    check_overwriting,
    keep_names,
    modified,
    pending_jobs,
    plan_jobs,
    raise_alone,
)
from .running import Done, Failed, run_jobs, upscale_bytes
from .sources import Unusable, check_given, find_sources
from .writing import Writing

__all__ = [
    "Done",
    "Failed",
    "Job",
    "Unusable",
    "Writing",
    "check_given",
    "check_names",
    "check_overwriting",
    "find_sources",
    "keep_names",
    "modified",
    "pending_jobs",
    "plan_jobs",
    "raise_alone",
    "run_jobs",
    "upscale_bytes",
]
