"""The service of `hfdn serve` as an application of Ray Serve (extras: ray, serve).

    serve run hfdn_deploy.cluster.serve:build scale=4 precision=int8 max_replicas=8

Each replica is a complete service with its own models, queue, batches and limits. Ray Serve sends
a request to the replica with the fewest requests, and adds and removes replicas by their load.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, PositiveInt
from ray import serve

from hfdn_deploy.options import ModelOptions, Tile
from hfdn_deploy.service import (
    BATCH,
    ModelSettings,
    Service,
    Settings,
    create_app,
    read_token,
)


class Arguments(BaseModel):
    """Arguments of `serve run ...:build name=value` and of Ray Serve's configuration files."""

    model_config = ConfigDict(extra="forbid")

    scale: int = 4
    precision: str = "fp32"
    backend: str = "auto"
    ensemble: bool = False
    tile: Tile = "auto"
    max_memory: PositiveInt | None = None
    """Bytes; see `ModelOptions`."""
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    num_cpus: float = 1
    """Cores of a replica, which on a CPU computes in as many threads."""
    num_gpus: float = 0
    """GPUs of a replica; several replicas share a GPU if it is less than 1."""


def build(arguments: Arguments) -> serve.Application:
    """Return an application with a pretrained bundle; the token is read from $HFDN_TOKEN."""
    options = ModelOptions(
        model=arguments.scale,
        precision=arguments.precision,
        backend=arguments.backend,
        ensemble=arguments.ensemble,
        tile=arguments.tile,
        max_memory=arguments.max_memory,
    )
    return deploy(
        Settings(ModelSettings((options,)), token=read_token()),
        {"min_replicas": arguments.min_replicas, "max_replicas": arguments.max_replicas},
        ray_actor_options={"num_cpus": arguments.num_cpus, "num_gpus": arguments.num_gpus},
    )


def deploy(settings: Settings, autoscaling: Mapping[str, Any], **options: Any) -> serve.Application:
    """Return an application for `serve.run`.

    Args:
        settings: settings of each replica's service.
        autoscaling: entries of Ray Serve's `autoscaling_config`, such as `max_replicas`. By
            default, a replica is to have one running and one waiting batch.
        options: further options of `serve.deployment`, such as `ray_actor_options`.
    """

    def app() -> FastAPI:
        return create_app(Service(settings))

    deployment = serve.deployment(
        name="hfdn",
        # Requests must reach a full replica, which answers 429 itself.
        max_ongoing_requests=settings.limits.connections,
        autoscaling_config={
            "target_ongoing_requests": 2 * (settings.models.batch or BATCH),
            **autoscaling,
        },
        graceful_shutdown_timeout_s=settings.limits.answer_seconds,
        **options,
    )
    return deployment(serve.ingress(app)()).bind()
