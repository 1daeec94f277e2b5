"""The recipe of an output: the model and the options that change its content."""

import hashlib
import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.backends import open_model
from hfdn_deploy.bundle import DERIVED, Bundle, pretrained_scales
from hfdn_deploy.engines import ENGINE_SUFFIXES, read_sidecar
from hfdn_deploy.errors import InputError
from hfdn_deploy.files.record import Made
from hfdn_deploy.files.writing import Writing
from hfdn_deploy.options import ModelOptions

# Options of a model that change a result by no more than rounding, and its path.
_UNSEEN = ("model", "backend", "tile", "max_memory", "allow_ungated", "trust")


@dataclass(frozen=True)
class Making:
    """The recipe of the outputs of a run; found without opening a model."""

    options: ModelOptions
    """The precision is the one that runs, not "auto"."""
    writing: Writing

    def facts(self, target: Path) -> Made:
        """Return the facts that an output depends on, as they come back from JSON.

        Raises:
            InputError, BundleError, EngineError: the model is missing or damaged.
        """
        facts = {**self._model, **self.writing.facts(target)}
        made: Made = json.loads(json.dumps(facts, default=str))
        return made

    @cached_property
    def _model(self) -> dict[str, Any]:
        options = self.options
        shown = {f.name: getattr(options, f.name) for f in fields(options) if f.name not in _UNSEEN}
        # Without a model, the sizes of images choose among the bundles of the package.
        model = options.model
        models = [f"x{n}" for n in pretrained_scales()] if model is None else [model]
        known = [_known(replace(options, model=one)) for one in models]
        facts = {"scale": None, **shown, **known[0]}  # the first difference is reported
        facts["precision"] = known[0].get("precision", options.precision or "fp32")
        if len(known) > 1:
            facts |= {"scale": None, "model": [one["model"] for one in known]}
        return facts


def _known(options: ModelOptions) -> dict[str, Any]:
    """Return the hash of a model, and the facts that it states."""
    path = Path(str(options.model))
    if path.suffix.lower() in ENGINE_SUFFIXES:
        sidecar = read_sidecar(path)
        return {"precision": sidecar.precision, "model": sidecar.sha256}
    source = open_model(options)
    if isinstance(source, Bundle):
        precision = options.precision or "fp32"
        graphs = precision, DERIVED.get(precision)
        files = source.manifest.files
        digests = "".join(entry.sha256 for entry in files if entry.precision in graphs)
        digest = hashlib.sha256(digests.encode()).hexdigest()
        return {"scale": source.manifest.scale, "model": digest}
    check_regular(path, InputError)
    try:
        with path.open("rb") as file:
            return {"model": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check it.") from None
