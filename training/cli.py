"""Train one network, or resume the run in --output.

`python -m training ablate` trains the networks of the paper's ablation tables instead, `session`
trains all three scales in a given time, and `publish` writes averaged weights in half precision.
"""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from hfdn_deploy.cli import (
    Parser,
    positive,
    positive_number,
    printable,
    run_command,
    set_up_logging,
)
from hfdn_deploy.errors import BackendError
from training import ablation
from training.data import Luma, Patches, load_folders
from training.host import keep_freed_memory
from training.initial import CHECKPOINTS, initial_network
from training.loop import Trainer
from training.publish import publish
from training.recipe import RECIPES, Recipe
from training.session import train_all

DEFAULT_DATA = Path("../shared/data/train")
# Steps between evaluations: about two minutes on two cores, half a minute on an H100.
EVERY = {"cpu": 250, "cuda": 5000}
# Arguments for the example in the help of each command.
EXAMPLES = {
    "": "--scale 4 --recipe fast --data photos --output runs/x4",
    "ablate": "--steps 400 --seeds 2 --data photos --output runs/ablation",
    "session": "photos runs/all 60",
    "publish": "runs/x4",
}


def _parser(command: str = "") -> Parser:
    parser = Parser(prog=f"python -m training {command}".strip(), description=__doc__)
    parser.add_examples(f"{parser.prog} {EXAMPLES[command]}")
    return parser


def _images(folders: Sequence[Path]) -> tuple[list[Luma], list[Luma]]:
    images, validation = load_folders(folders)
    logging.info("%d images to train on, %d held out", len(images), len(validation))
    return images, validation


def _add_machine(parser: argparse.ArgumentParser) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device)
    parser.add_argument(
        "--every", type=positive, help=f"steps between evaluations, by default {EVERY}"
    )


def _parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Read the arguments.

    Raises:
        BackendError: the requested device is not available.
    """
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise BackendError("PyTorch finds no CUDA device", "leave out --device cuda")
    return args


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data", type=Path, nargs="+", default=[DEFAULT_DATA])
    parser.add_argument("--steps", type=positive, help="steps, instead of the recipe's")
    parser.add_argument("--batch", type=positive, help="patches a step, instead of the recipe's")
    parser.add_argument(
        "--rate", type=positive_number, help="highest rate, instead of the recipe's"
    )


def _recipe(args: argparse.Namespace, names: tuple[str, ...]) -> Recipe:
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    return replace(RECIPES[args.recipe], **given)


def _train(argv: list[str]) -> Callable[[], None]:
    parser = _parser()
    _add_recipe(parser)
    _add_machine(parser)
    parser.add_argument("--minutes", type=positive_number, help="duration instead of steps")
    parser.add_argument("--scale", type=int, required=True, choices=(2, 3, 4))
    parser.add_argument("--recipe", choices=RECIPES, default="paper")
    parser.add_argument("--init", type=Path, help="checkpoint (any scale) to start from")
    parser.add_argument(
        "--patch", type=positive, help="side of an HR patch in pixels, instead of the recipe's 96"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--fp32", dest="bf16", action="store_const", const=False, help="no bfloat16 (reproducible)"
    )
    args = _parse(parser, argv)
    recipe = _recipe(args, ("steps", "minutes", "batch", "patch", "rate", "seed", "bf16"))

    def run() -> None:
        images, validation = _images(args.data)
        patches = Patches(images, args.scale, recipe.patch, args.device, recipe.sizes)
        network = initial_network(args.scale, args.init, recipe.seed).to(args.device)
        trainer = Trainer(network, recipe, args.output)
        trainer.run(patches, validation, args.every or EVERY[args.device])
        print(printable(args.output / f"hfdn_x{args.scale}.safetensors"))

    return run


def _ablate(argv: list[str]) -> Callable[[], None]:
    parser = _parser("ablate")
    _add_recipe(parser)
    _add_machine(parser)
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
    parser.add_argument("--recipe", choices=RECIPES, default="fast")
    parser.add_argument("--seeds", type=positive, default=2, help="runs of each network")
    args = _parse(parser, argv)
    recipe = _recipe(args, ("steps", "batch", "rate"))

    def run() -> None:
        images, validation = _images(args.data)
        patches = Patches(images, args.scale, recipe.patch, args.device, recipe.sizes)
        results = ablation.run(
            args.scale, recipe, args.seeds, patches, validation, args.output, args.device
        )
        print(ablation.markdown(results))
        print(printable(f"\nruns: {args.output}", keep="\n"))

    return run


def _session(argv: list[str]) -> Callable[[], None]:
    start = time.monotonic()
    parser = _parser("session")
    parser.add_argument("data", type=Path, help="folder of training images")
    parser.add_argument("output", type=Path, help="folder of the runs; existing runs are resumed")
    parser.add_argument("minutes", type=positive_number, help="time for all three scales")
    _add_machine(parser)
    args = _parse(parser, argv)

    def left() -> float:
        return float(60 * args.minutes - (time.monotonic() - start))

    every = args.every or EVERY[args.device]
    return lambda: train_all(_images([args.data]), args.output, args.device, left, every)


def _publish(argv: list[str]) -> Callable[[], None]:
    parser = _parser("publish")
    parser.add_argument("runs", type=Path, nargs="+", metavar="run", help="folder of a run")
    parser.add_argument("--output", type=Path, default=CHECKPOINTS / "next")
    args = parser.parse_args(argv)

    def run() -> None:
        for folder in args.runs:
            for path in publish(folder, args.output):
                print(printable(path))

    return run


COMMANDS = {"": _train, "ablate": _ablate, "session": _session, "publish": _publish}


def main(argv: list[str]) -> int:
    """Run the command line and return the exit code."""
    set_up_logging()
    keep_freed_memory()
    word = argv[0] if argv and argv[0] in COMMANDS else ""
    return run_command(lambda: COMMANDS[word](argv[bool(word) :])())
