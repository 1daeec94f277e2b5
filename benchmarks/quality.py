"""PSNR and SSIM on luma, by the protocol of the published tables (`hfdn_deploy.bench.quality`)."""

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks import baseline, paper
from benchmarks.given import Given
from benchmarks.pictures import Luma, picture
from benchmarks.record import method_name, weights_of
from export.sessions import candidate
from hfdn_deploy.bench import (
    PEAK,
    crop_to_multiple,
    degrade,
    load_luma_set,
    psnr,
    ssim,
    to_levels,
)
from hfdn_deploy.bundle import PRECISIONS, Bundle, Manifest, pretrained, pretrained_scales
from hfdn_deploy.errors import BackendError, GateError, InputError
from hfdn_deploy.images import imresize, write_image
from hfdn_deploy.upscaler import Upscaler

logger = logging.getLogger(__name__)

Method = Callable[[NDArray[np.float64]], NDArray[np.floating]]


@dataclass(frozen=True)
class Score:
    """One method on one set at one scale."""

    set: str
    scale: int
    method: str
    psnr: float
    """Mean over the images, in dB."""
    ssim: float
    images: dict[str, tuple[float, float]]
    """PSNR and SSIM by image name."""
    weights: str = ""
    """Short hash of HFDN's checkpoint; empty for other methods."""
    parameters: str = ""
    """Of HFDN, in thousands, such as "760.1k"."""
    maccs: str = ""
    """Of HFDN, in the paper's convention, such as "178.51G"."""


def upscale_set(images: Mapping[str, Luma], scale: int, run: Method) -> dict[str, Luma]:
    """Degrade each original and upscale it with `run`, rounded to whole levels.

    Args:
        images: originals by name, (H, W) luma 0..255.
        scale: upscaling factor.
        run: maps low-resolution luma (H, W) on the 8-bit scale to (scale·H, scale·W).
    """
    bar = tqdm(images.items(), unit="image", disable=None, leave=False)
    return {
        name: to_levels(run(degrade(crop_to_multiple(image, scale), scale))) for name, image in bar
    }


def score(
    set_name: str,
    scale: int,
    method: str,
    images: Mapping[str, Luma],
    outputs: Mapping[str, Luma],
    manifest: Manifest | None = None,
) -> Score:
    """Compare the outputs of `upscale_set`, by HFDN if there is a manifest, with the originals."""
    scores = {}
    for name, image in images.items():
        hr = crop_to_multiple(image, scale)
        scores[name] = (psnr(outputs[name], hr, scale), ssim(outputs[name], hr, scale))
    mean_psnr, mean_ssim = np.mean(list(scores.values()), axis=0)
    found = Score(set_name, scale, method, float(mean_psnr), float(mean_ssim), scores)
    if manifest is None:
        return found
    return replace(
        found,
        weights=manifest.weights,
        parameters=f"{manifest.parameters / 1e3:.1f}k",
        maccs=f"{manifest.macs_paper / 1e9:.2f}G",
    )


def bicubic(scale: int) -> Method:
    """Return MATLAB's bicubic upscaling."""
    return lambda lr: imresize(lr, scale)


def network(up: Upscaler) -> Method:
    """Return the network of an upscaler."""
    return lambda lr: up.upscale_luma((lr / PEAK).astype(np.float32)) * PEAK


def graph(model: onnx.ModelProto) -> Method:
    """Return a graph as ONNX Runtime runs it on the CPU."""
    run = candidate(model)
    return lambda lr: run((lr[None, None] / PEAK).astype(np.float32))[0, 0] * PEAK


def networks(bundle: Bundle, precision: str, ensemble: bool) -> Iterator[tuple[str, Method]]:
    """Yield one precision of a bundle, HFDN+ if `ensemble`, and for INT8 its baselines.

    A precision that cannot run here, or whose graph failed its gates, is left out with a warning.
    """
    try:
        opened = Upscaler.load(bundle.path, precision=precision)
    except (BackendError, GateError) as error:
        logger.warning("left out ×%d in %s: %s", bundle.manifest.scale, precision, error)
        return
    with opened as up:
        yield method_name(precision), network(up)
        if ensemble:
            average = Upscaler(up.backend, up.choice, ensemble=True)
            yield method_name(precision, ensemble=True), network(average)
    if precision == "int8":
        for name, data in baseline.int8_graphs(bundle).items():
            yield name, graph(onnx.load_model_from_string(data))


def markdown(scores: Sequence[Score], peers: bool = False) -> str:
    """Return a Markdown table of the scores.

    Args:
        scores: the measured scores.
        peers: add the paper's figures for the same sets and scales, marked so, and sort by PSNR.
    """
    rows = [
        (
            *(s.set, s.scale, s.psnr),
            f"{s.method} | {s.parameters} | {s.maccs} | {s.psnr:.2f} | {s.ssim:.4f} |",
        )
        for s in scores
    ]
    if peers:
        for name, scale in dict.fromkeys((s.set, s.scale) for s in scores):
            for row in paper.published():
                if row.scale == scale and name in row.scores:
                    cells = (f"{row.method} (paper)", row.parameters, row.maccs, *row.scores[name])
                    rows.append((name, scale, float(cells[3]), f"{' | '.join(cells)} |"))
        order = list(dict.fromkeys(s.set for s in scores))
        rows.sort(key=lambda row: (order.index(row[0]), *row[1:3]))
    sizes = {s.set: len(s.images) for s in scores}
    lines = [
        "| set | scale | method | parameters | MACCs | PSNR | SSIM |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, scale, _, shown in rows:
        size = paper.SET_SIZES.get(name, sizes[name])
        note = "" if sizes[name] == size else f" (incomplete: {sizes[name]} of {size})"
        lines.append(f"| {name}{note} | ×{scale} | {shown}")
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `python -m benchmarks quality`."""
    sources = parser.add_mutually_exclusive_group(required=True)
    sources.add_argument("--data", type=Path, action="append", help="image folder")
    sources.add_argument("--recorded", type=Path, metavar="JSON", help="print an earlier run")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--scale", type=int, nargs="+", choices=(2, 3, 4), help="default: all")
    models.add_argument("--bundle", type=Path, help="bundle instead of the package's")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32"])
    parser.add_argument("--ensemble", action="store_true", help="add HFDN+, which takes 8× as long")
    parser.add_argument(
        "--peers", action="store_true", help="one table with the methods of the paper, by PSNR"
    )
    parser.add_argument(
        "--peer",
        type=_named,
        action="append",
        default=[],
        metavar="NAME=ONNX",
        help="a network whose weights you have, for luma or RGB in 0..1",
    )
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write crops side by side")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a name and a file such as IMDN=imdn.onnx"
        )
    if name.startswith(("bicubic", "HFDN")):
        raise argparse.ArgumentTypeError(f"{name} is a name of this table; choose another")
    return name, Path(path)


def main(args: argparse.Namespace) -> None:
    """Print the scores of bicubic upscaling, HFDN and HFDN+ on every set.

    Raises:
        GateError: no precision can run here and passed its gates.
        InputError: `args.recorded` cannot be read, or has no scores of these weights.
    """
    if args.bundle:
        bundles = [Bundle(args.bundle)]
    else:
        bundles = [pretrained(scale) for scale in args.scale or pretrained_scales()]
    scores = _recorded(args, bundles) if args.recorded else _measured(args, bundles)
    if args.json:
        print(json.dumps([asdict(s) for s in scores], indent=1))
        return
    print(markdown(scores, args.peers))
    scales = [bundle.manifest.scale for bundle in bundles]
    if not args.peers:
        print(f"The paper's figures, PSNR in dB / SSIM:\n\n{paper.table(scales)}\n")
    print(weights_of(bundles))
    if args.pictures:
        print(f"crops: {args.pictures}")


def _measured(args: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Score]:
    scores: list[Score] = []
    given = [Given.open(name, path) for name, path in args.peer]
    for folder in args.data:
        images = load_luma_set(folder)
        for bundle in bundles:
            scale = bundle.manifest.scale
            outputs = {"bicubic": upscale_set(images, scale, bicubic(scale))}
            for one in given:
                if one.factor in (1, scale):
                    outputs[one.name] = {x: one.upscaled(folder / x, scale) for x in images}
            others = set(outputs)
            for precision in args.precision:
                for method, run in networks(bundle, precision, args.ensemble):
                    outputs[method] = upscale_set(images, scale, run)
            for method, results in outputs.items():
                manifest = None if method in others else bundle.manifest
                scores.append(score(folder.name, scale, method, images, results, manifest))
            if args.pictures and scores[-1].weights:
                name, row = picture(images, scale, outputs)
                args.pictures.mkdir(parents=True, exist_ok=True)
                write_image(args.pictures / f"{folder.name}_x{scale}_{Path(name).stem}.png", row)
    if not any(s.weights for s in scores):
        raise GateError("no network was measured, see above", "choose another --precision")
    return scores


def _recorded(args: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Score]:
    if args.peer or args.pictures:
        raise InputError("--peer and --pictures have to measure; give --data, not --recorded.")
    try:
        scores = [Score(**row) for row in json.loads(args.recorded.read_text())]
    except (OSError, ValueError, TypeError) as error:
        reason = f"{args.recorded} cannot be read: {error}"
        raise InputError(reason, "name a file that --json wrote") from error
    methods = {method_name(x, plus) for x in args.precision for plus in {False, args.ensemble}}
    weights = {bundle.manifest.scale: bundle.manifest.weights for bundle in bundles}
    found = [
        s
        for s in scores
        if s.method in {"bicubic", *methods}
        and s.scale in weights
        and s.weights in ("", weights[s.scale])
    ]
    for scale in set(weights) - {s.scale for s in found if s.weights}:
        reason = f"{args.recorded} has no scores of ×{scale} {weights[scale]}"
        raise InputError(reason, "measure again with --json")
    return found
