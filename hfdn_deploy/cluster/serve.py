"""The service of `hfdn serve` as an application of Ray Serve (extras: ray, serve).

    serve run hfdn_deploy.cluster.serve:build scale=4 precision=int8 max_replicas=8

Each replica is the whole service with its own models, queue, batches and limits. Serve sends a
request to the replica with the fewest, and starts and ends replicas by how many they have.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, PositiveInt
from ray import serve

from hfdn_deploy.service import (
    BATCH,
    ModelSettings,
    Service,
    Settings,
    create_app,
    read_token,
)


class Arguments(BaseModel):
    """What `serve run ...:build name=value` and Serve's configuration files may set."""

    model_config = ConfigDict(extra="forbid")

    scale: int = 4
    precision: str = "fp32"
    backend: str = "auto"
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    num_cpus: float = 1
    """Cores of a replica, which on a CPU computes in as many threads."""
    num_gpus: float = 0
    """GPUs of a replica; several share one if it is less than 1."""


def build(arguments: Arguments) -> serve.Application:
    """An application with a pretrained bundle; the token is taken from $HFDN_TOKEN."""
    models = ModelSettings((arguments.scale,), None, (arguments.precision,), arguments.backend)
    return deploy(
        Settings(models, token=read_token()),
        {"min_replicas": arguments.min_replicas, "max_replicas": arguments.max_replicas},
        ray_actor_options={"num_cpus": arguments.num_cpus, "num_gpus": arguments.num_gpus},
    )


def deploy(settings: Settings, autoscaling: Mapping[str, Any], **options: Any) -> serve.Application:
    """An application, for `serve.run`.

    Args:
        settings: of every replica's service.
        autoscaling: `min_replicas`, `max_replicas` and the like of Serve's `autoscaling_config`.
            Unless it says otherwise, a replica shall have one batch that runs and one that waits.
        options: more of `serve.deployment`'s, such as `ray_actor_options`.
    """

    def app() -> FastAPI:
        return create_app(Service(settings))

    deployment = serve.deployment(
        name="hfdn",
        # A full replica answers 429 itself, so requests reach it even then.
        max_ongoing_requests=settings.limits.connections,
        autoscaling_config={
            "target_ongoing_requests": 2 * (settings.models.batch or BATCH),
            **autoscaling,
        },
        graceful_shutdown_timeout_s=settings.limits.answer_seconds,
        **options,
    )
    return deployment(serve.ingress(app)()).bind()
