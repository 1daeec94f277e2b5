"""Train one network, or resume the run that lies in --output.

`python -m training ablate` trains the networks of the paper's ablation tables instead.
"""

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import torch

from hfdn_deploy.cli import positive, run_command
from hfdn_deploy.errors import CheckpointError
from hfdn_deploy.network import HFDN, HFDNConfig, load_checkpoint
from training import ablation
from training.data import Patches, load_folders
from training.loop import Trainer
from training.recipe import RECIPES, Recipe

DEFAULT_DATA = Path("../shared/data/train")


def _parser(ablate: bool) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--data", type=Path, nargs="+", default=[DEFAULT_DATA])
    parser.add_argument("--steps", type=positive, help="instead of the recipe's")
    parser.add_argument("--batch", type=positive, help="instead of the recipe's")
    parser.add_argument("--rate", type=float, help="instead of the recipe's")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device)
    if ablate:
        parser.add_argument("command", choices=["ablate"])
        parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4))
        parser.add_argument("--recipe", choices=RECIPES, default="fast")
        parser.add_argument("--seeds", type=positive, default=2, help="runs of each network")
        return parser
    parser.add_argument("--scale", type=int, required=True, choices=(2, 3, 4))
    parser.add_argument("--recipe", choices=RECIPES, default="paper")
    parser.add_argument("--init", type=Path, help="checkpoint (any scale) to start from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=positive, default=250, help="steps between evaluations")
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 (reproducible)")
    parser.set_defaults(seeds=None)
    return parser


def initial_network(scale: int, init: Path | None, seed: int) -> HFDN:
    """A fresh network, or one with the weights of `init`, whose scale may be another."""
    torch.manual_seed(seed)
    network = HFDN(HFDNConfig(scale))
    if init:
        source = load_checkpoint(init)
        weights = source.state_dict()
        if replace(source.config, scale=scale) != network.config:
            raise CheckpointError(f"{init} is an ablated HFDN; start from a full one.")
        if source.config.scale != scale:
            # A deconvolution means something else at another stride, even where shapes agree.
            weights = {name: w for name, w in weights.items() if "deconv" not in name}
        network.load_state_dict(weights, strict=False)
        logging.info("took %d of %d tensors from %s", len(weights), len(network.state_dict()), init)
    return network


def _train(args: argparse.Namespace, recipe: Recipe) -> None:
    images, validation = load_folders(args.data)
    logging.info("%d images to train on, %d held out", len(images), len(validation))
    patches = Patches(images, args.scale, recipe.patch, args.device)
    if args.seeds:
        results = ablation.run(
            args.scale, recipe, args.seeds, patches, validation, args.output, args.device
        )
        print(ablation.markdown(results))
        return
    network = initial_network(args.scale, args.init, args.seed).to(args.device)
    trainer = Trainer(network, recipe, args.output, args.seed, bf16=not args.fp32)
    trainer.run(patches, validation, args.every)


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit code."""
    args = _parser(ablate=argv[:1] == ["ablate"]).parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = {k: v for k in ("steps", "batch", "rate") if (v := getattr(args, k)) is not None}
    return run_command(lambda: _train(args, replace(RECIPES[args.recipe], **given)))
