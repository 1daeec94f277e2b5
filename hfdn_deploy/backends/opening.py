"""Choice of the backend that opens a model: the requested one, or the fastest that can."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np

from hfdn_deploy.backends.base import Backend, Model
from hfdn_deploy.backends.spec import (
    BACKENDS,
    CHECKPOINT_SUFFIXES,
    BackendSpec,
    ModelKind,
    Obstacle,
    by_speed,
)
from hfdn_deploy.bundle import DERIVED, Bundle, graph_for, named_bundle, pretrained
from hfdn_deploy.engines import ENGINE_SUFFIXES, Engine, open_engine
from hfdn_deploy.errors import BackendError, GateError, InputError
from hfdn_deploy.interruption import deferred
from hfdn_deploy.options import ModelOptions


def open_model(options: ModelOptions) -> Model:
    """Return the model that the options name, for `open_backend`.

    Raises:
        InputError: the model is neither a scale nor a path.
        BundleError, EngineError: the model is missing, damaged or not trusted.
    """
    model = options.model
    if isinstance(model, int | np.integer):
        return pretrained(int(model), options.allow_ungated)
    try:
        path = Path("x4" if model is None else model)
    except TypeError:
        raise InputError(f"{model!r} is not a model", "give a scale or a path") from None
    if path.suffix.lower() in ENGINE_SUFFIXES:
        return open_engine(path, options.trust, options.allow_ungated)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        return path
    if path.exists():
        return Bundle(path, options.allow_ungated)
    return named_bundle(str(path), options.allow_ungated)


def why_unavailable(name: str) -> Obstacle | None:
    """Return why a backend of `BACKENDS` cannot run here, and what to do; None if it can."""
    with deferred():
        return _implementation(BACKENDS[name]).why_unavailable()


def why_unfit(name: str, model: Model) -> Obstacle | None:
    """Return why a backend cannot run this model on any machine; None if it can."""
    kind = _kind(model)
    if kind in BACKENDS[name].runs:
        return None
    if kind == "engine":
        return Obstacle("it does not run engines", "use backend tensorrt")
    if kind == "bundle":
        return Obstacle("it runs checkpoints, not bundles", "name a .safetensors file")
    return Obstacle("it runs bundles, not checkpoints", f"python -m export {model} -o BUNDLE")


def open_backend(name: str, model: Model, precision: str) -> tuple[Backend, str]:
    """Open a model with this backend and precision; "auto" is the fastest that can run it.

    Returns:
        The backend, and a description of the choice: the backend's name, the precision if that was
        "auto", and the reasons.

    Raises:
        BackendError: the backend, or for "auto" every backend, is unknown, unavailable or cannot
            run the model.
        BundleError, CheckpointError, EngineError: the model is not usable.
        GateError: the model's graph did not pass its gates; for "auto", the graph of the last
            backend tried.
    """
    if name not in (*BACKENDS, "auto"):
        known = ", ".join(BACKENDS)
        raise BackendError(f"there is no backend {name!r}; choose auto or one of {known}.")
    passed_over: dict[str, Obstacle] = {}
    failure: BackendError | GateError | None = None
    for spec, tried in _candidates(name, model, precision):
        if spec.name in passed_over:
            continue
        if obstacle := why_unfit(spec.name, model) or why_unavailable(spec.name):
            passed_over[spec.name] = obstacle
            continue
        what = f"{spec.name} in {tried}" if precision == "auto" else spec.name
        if precision == "auto" and (obstacle := _why_not_faster(spec, model, tried)):
            passed_over[what] = obstacle
            continue
        try:
            backend = _implementation(spec).open(model, tried)
        except (BackendError, GateError) as error:
            failure, passed_over[what] = error, Obstacle(error.reason, error.advice)
        else:
            facts = [f"not {other}: {found.reason}" for other, found in passed_over.items()]
            automatic = "auto" in (name, precision)
            why = "; ".join([*facts, spec.merit]) if automatic else "requested"
            return backend, f"{what} ({why})"
    refused = "; ".join(f"not {other}: {found}" for other, found in passed_over.items())
    raise failure or BackendError(f"{refused}.")


def _candidates(name: str, model: Model, precision: str) -> Sequence[tuple[BackendSpec, str]]:
    """Return the backends and precisions to try, in order; only tensorrt runs engines."""
    engine = isinstance(model, Engine) and name == "auto"
    return by_speed("tensorrt" if engine else name, precision)


def _why_not_faster(spec: BackendSpec, model: Model, precision: str) -> Obstacle | None:
    """Return why precision "auto" skips a precision without trying it; None if it does not."""
    if isinstance(model, Bundle) and spec.dialect:
        graph = graph_for(precision, spec.dialect)
        if DERIVED.get(graph, graph) not in {entry.graph for entry in model.manifest.files}:
            return Obstacle("the bundle has no such graph", "export it again")
    return _implementation(spec).why_slow(precision)


def _kind(model: Model) -> ModelKind:
    if isinstance(model, Engine):
        return "engine"
    return "bundle" if isinstance(model, Bundle) else "checkpoint"


def _implementation(spec: BackendSpec) -> type[Backend]:
    module, name = spec.implementation.split(":")
    found: type[Backend] = getattr(import_module(module), name)
    return found
