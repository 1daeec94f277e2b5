"""Export checkpoints to bundles, verify bundles, and export bundles to other formats.

python -m export CHECKPOINT -o BUNDLE
python -m export verify BUNDLE CHECKPOINT
python -m export triton BUNDLE -o MODEL_REPOSITORY
python -m export image BUNDLE -o FILE.onnx
python -m export web BUNDLE -o DIR
"""

import argparse
import logging
import math
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from export.image import ENGINES, export_image_graph
from export.triton import write_repository
from export.web import write_page
from hfdn_deploy.bundle import GRAPHS, Bundle, ModelFile, named_bundle
from hfdn_deploy.cli import Parser, printable, run_command, set_up_logging, size
from hfdn_deploy.errors import BackendError
from hfdn_deploy.graph import CHANNELS, DTYPES, LAYOUTS, OPSET, PixelFormat
from hfdn_deploy.network import HFDNConfig


def _export(args: argparse.Namespace) -> None:
    bundle: Bundle = _exporter().export_bundle(
        args.checkpoint,
        args.output,
        args.precisions,
        _config(args),
        args.calibration,
        args.budget_db,
        args.report,
    )
    _report(bundle.path, bundle.manifest.files)
    if chosen := bundle.manifest.quantization:
        print(f"INT8: {len(chosen.layers)} layers with {chosen.macs_share:.2%} of the MACs")
    if args.report:
        print(printable(f"report: {args.report}"))
    print(printable(f"bundle: {bundle.path}"))


def _verify(args: argparse.Namespace) -> None:
    entries = _exporter().verify_bundle(args.bundle, args.checkpoint, _config(args))
    _report(args.bundle, entries)


def _exporter() -> Any:
    """Import the module for checkpoints, which takes a second; other commands need no PyTorch."""
    try:
        return import_module("export.exporter")
    except ModuleNotFoundError as error:
        raise BackendError(
            f"exporting and verifying need {error.name}, which is not installed",
            "install it: pip install 'hfdn-deploy[torch]'",
        ) from None


def _triton(args: argparse.Namespace) -> None:
    names = write_repository(named_bundle(args.bundle), args.output, args.device, args.engine)
    print(printable(f"{args.output}: {', '.join(names)}"))


def _image(args: argparse.Namespace) -> None:
    pixels = PixelFormat(
        layout=args.layout, dtype=args.dtype, channels=args.channels, size=args.size
    )
    furthest = export_image_graph(
        named_bundle(args.bundle), args.output, args.precision, args.engine, pixels, args.opset
    )
    print(printable(f"{args.output}: differs from Python's pixels by at most {furthest:.2g}"))


def _web(args: argparse.Namespace) -> None:
    write_page(named_bundle(args.bundle), args.output, args.precision)
    print(printable(f"{args.output}: serve it, e.g. with python -m http.server -d {args.output}"))


def _config(args: argparse.Namespace) -> HFDNConfig | None:
    return HFDNConfig(args.scale) if args.scale else None


def _report(bundle: Path, files: Iterable[ModelFile]) -> None:
    for entry in files:
        assert entry.parity is not None
        gates = entry.parity.gates
        nearest = max((gate for gate in gates if gate.limit), key=lambda g: g.value / g.limit)
        print(
            f"{printable(bundle / entry.file)}: all {len(gates)} gates passed; nearest to its "
            f"limit came {nearest.name}, {nearest.value:.2g} (≤ {nearest.limit:g})"
        )


def _decibels(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a loss in dB; give a number from 0 up")
    return value


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = Parser(
        prog="python -m export",
        description=__doc__,
    )
    word = argv[0] if argv and argv[0] in _SUBCOMMANDS else ""
    if word:
        parser.prog += f" {word}"
    add_arguments, example = _SUBCOMMANDS[word]
    add_arguments(parser)
    parser.add_examples(f"{parser.prog} {example}")
    args = parser.parse_args(argv[bool(word) :])
    if args.command is _export and "int8" not in args.precisions:
        for option in ("calibration", "budget_db", "report"):
            if getattr(args, option) is not None:
                parser.error(f"--{option.replace('_', '-')} is for INT8; add int8 to --precisions")
    located = getattr(args, "locate", False)
    set_up_logging()
    logging.getLogger("export").setLevel(logging.DEBUG if located else logging.INFO)
    return run_command(lambda: args.command(args))


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="bundle directory; missing parents are created",
    )
    parser.add_argument("--precisions", nargs="+", choices=GRAPHS, default=["fp32"])
    int8 = parser.add_argument_group("INT8")
    int8.add_argument(
        "--calibration", type=Path, metavar="DIR",
        help="folder of images to calibrate with (default: photographs of scikit-image), or a "
        "bundle whose calibration to reuse",
    )  # fmt: skip
    int8.add_argument(
        "--budget-db", type=_decibels, help="largest PSNR loss to accept (default: 0.05)"
    )
    int8.add_argument(
        "--report", type=Path, metavar="DIR", help="write a report on each layer's loss in INT8"
    )
    parser.set_defaults(command=_export)
    _checkpoint_arguments(parser)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.set_defaults(command=_verify)
    _checkpoint_arguments(parser)


def _checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scale", type=int, help="scale of a file that does not state it, such as a .pth"
    )
    parser.add_argument(
        "--locate", action="store_true", help="if a gate fails, list how far each node departs"
    )


def _triton_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="bundle directory, or x2, x3, x4 for a pretrained bundle")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model repository")
    parser.add_argument(
        "--device", choices=("cuda", "cpu"), default="cuda",
        help="where Triton runs the models (default: cuda)",
    )  # fmt: skip
    parser.add_argument(
        "--engine", type=Path, nargs="+", default=[], help="TensorRT engines to serve as well"
    )
    parser.set_defaults(command=_triton)


def _image_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="bundle directory, or x2, x3, x4 for a pretrained bundle")
    parser.add_argument("-o", "--output", type=Path, required=True, help="ONNX file")
    parser.add_argument("--precision", choices=GRAPHS, default="fp32")
    parser.add_argument(
        "--engine", choices=ENGINES, default="onnxruntime",
        help="backend to run the file; only int8 depends on it (default: onnxruntime, on a CPU)",
    )  # fmt: skip
    parser.add_argument("--layout", choices=LAYOUTS, default="nhwc")
    parser.add_argument("--dtype", choices=DTYPES, default="uint8", help="floats are in 0..1")
    parser.add_argument("--channels", choices=(*CHANNELS, "rgba"), default="rgb")
    parser.add_argument("--size", type=size, metavar="WxH", help="input size (default: any)")
    parser.add_argument("--opset", type=int, default=OPSET, help=f"ONNX opset (default: {OPSET})")
    parser.set_defaults(command=_image)


def _web_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="bundle directory, or x2, x3, x4 for a pretrained bundle")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the page")
    parser.add_argument("--precision", choices=GRAPHS, default="fp32")
    parser.set_defaults(command=_web)


# What adds the options of each subcommand, and arguments for the example in its help.
_SUBCOMMANDS = {
    "": (
        _export_arguments,
        "checkpoints/hfdn_x4.safetensors -o build/x4 --precisions fp32 fp16",
    ),
    "verify": (_verify_arguments, "build/x4 checkpoints/hfdn_x4.safetensors"),
    "triton": (_triton_arguments, "x4 -o build/models --device cpu"),
    "image": (_image_arguments, "x4 -o build/x4.onnx --size 320x180"),
    "web": (_web_arguments, "x4 -o build/page"),
}
