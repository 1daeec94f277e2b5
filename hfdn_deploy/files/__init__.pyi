from .planning import (
    Job,
    check_names,
    check_overwriting,
    find_sources,
    modified,
    pending_jobs,
    plan_jobs,
)
from .running import Done, Failed, run_jobs, upscale_bytes

__all__ = [
    "Done",
    "Failed",
    "Job",
    "check_names",
    "check_overwriting",
    "find_sources",
    "modified",
    "pending_jobs",
    "plan_jobs",
    "run_jobs",
    "upscale_bytes",
]
