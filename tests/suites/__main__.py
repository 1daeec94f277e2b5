"""Upscale all image files in a folder and compare the results: `python -m tests.suites FOLDER`.

The exit code is 1 if there are findings.
"""

import argparse
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from tqdm import tqdm

from tests.suites import decoders, metadata
from tests.suites.check import check_file
from tests.suites.pool import check_all
from tests.suites.results import by_package, findings, load, save, table
from tests.suites.sources import find_images

_SAVED_AFTER = 50
"""Number of files after which results are saved for `--resume`."""


def main() -> int:
    """Check the files; print a Markdown table and the findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder that holds a folder for each package")
    parser.add_argument("--jobs", type=int, default=2, help="files at a time (default: 2)")
    parser.add_argument(
        "--largest", type=float, default=0.1, metavar="MP",
        help="upscale images of up to this many megapixels (default: 0.1)",
    )  # fmt: skip
    parser.add_argument(
        "--model",
        type=int,
        metavar="SCALE",
        help="scale of a network to use instead of repeated pixels",
    )
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only check paths that contain this text"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the results in --json, and check the other files",
    )
    args = parser.parse_args()
    if missing := decoders.missing() or metadata.missing():
        parser.error(missing)
    results = load(args.json) if args.resume and args.json else []
    known = {result.path for result in results}
    paths = [path for path in find_images(args.folder) if args.only in str(path)]
    paths = [path for path in paths if str(path) not in known]
    check = partial(check_file, largest=args.largest * 1e6, model=args.model)
    every = 0.1 if sys.stderr.isatty() else 60
    bar = tqdm(check_all(paths, check, args.jobs), total=len(paths), unit="file", mininterval=every)
    with suppress(KeyboardInterrupt):  # SIGINT ends the checks and reports the results so far
        for result in bar:
            results.append(result)
            if args.json and len(results) % _SAVED_AFTER == 0:
                save(results, args.json)
    results.sort(key=lambda result: result.path)
    if args.json:
        save(results, args.json)
    sys.stdout.write(table(by_package(results, args.folder)))
    sys.stdout.write("\n" + findings(results, args.folder))
    return any(result.findings for result in results)


if __name__ == "__main__":
    sys.exit(main())
