from .making import Making
from .naming import Naming, output_suffix
from .outcomes import Done, Failed, FileProgress
from .planning import (
    Job,
    check_file,
    check_names,
    check_overwriting,
    keep_names,
    plan_jobs,
    raise_alone,
)
from .record import RECORD, Entry, FileFacts, Made, file_facts, read_record, record_output
from .resuming import is_done, pending_jobs
from .running import run_jobs
from .sources import Source, Unusable, check_given, find_sources
from .stills import upscale_bytes
from .writing import Writing

__all__ = [
    "RECORD",
    "Done",
    "Entry",
    "Failed",
    "FileFacts",
    "FileProgress",
    "Job",
    "Made",
    "Making",
    "Naming",
    "Source",
    "Unusable",
    "Writing",
    "check_file",
    "check_given",
    "check_names",
    "check_overwriting",
    "file_facts",
    "find_sources",
    "is_done",
    "keep_names",
    "output_suffix",
    "pending_jobs",
    "plan_jobs",
    "raise_alone",
    "read_record",
    "record_output",
    "run_jobs",
    "upscale_bytes",
]
