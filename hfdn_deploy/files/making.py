"""What makes an output: the model and how it is written, but not where and how fast it ran."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hfdn_deploy.atomic import check_regular
from hfdn_deploy.backends import open_model
from hfdn_deploy.bundle import DERIVED, Bundle
from hfdn_deploy.engines import ENGINE_SUFFIXES, read_sidecar
from hfdn_deploy.errors import InputError
from hfdn_deploy.files.record import Made
from hfdn_deploy.files.writing import Writing
from hfdn_deploy.options import ModelOptions


@dataclass(frozen=True)
class Making:
    """What makes the outputs of a run. No model is opened for it."""

    options: ModelOptions
    writing: Writing

    def facts(self, target: Path) -> Made:
        """What shows in an output, as it comes back from JSON.

        Raises:
            InputError, BundleError, EngineError: the model is missing or damaged.
        """
        facts = {**self._model, **self.writing.facts(target)}
        made: Made = json.loads(json.dumps(facts, default=str))
        return made

    @cached_property
    def _model(self) -> dict[str, Any]:
        """Backend, tiles and memory are left out: with them results differ by rounding alone."""
        model = Path(str(self.options.model))
        facts: dict[str, Any] = {"ensemble": self.options.ensemble}
        if model.suffix.lower() in ENGINE_SUFFIXES:
            sidecar = read_sidecar(model)
            return {"precision": sidecar.precision, **facts, "model": sidecar.sha256}
        precision = self.options.precision or "fp32"
        source = open_model(self.options)
        if isinstance(source, Bundle):
            manifest = source.manifest
            graphs = (precision, DERIVED.get(precision))
            digests = [entry.sha256 for entry in manifest.files if entry.precision in graphs]
            digest = hashlib.sha256("".join(digests).encode()).hexdigest()
            facts = {"scale": manifest.scale, **facts}
        else:
            check_regular(model, InputError)
            try:
                with model.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise InputError(f"{model} cannot be read: {error.strerror}; check it.") from None
        return {**facts, "precision": precision, "model": digest}
