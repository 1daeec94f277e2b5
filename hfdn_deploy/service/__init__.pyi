from .app import create_app
from .batcher import Batcher, StoppedError
from .limits import Limits, RequestError
from .models import BATCH, ModelSettings
from .pace import Pace
from .server import listen, make_server, serve
from .service import Service, Settings
from .token import TOKEN, read_token

__all__ = [
    "BATCH",
    "TOKEN",
    "Batcher",
    "Limits",
    "ModelSettings",
    "Pace",
    "RequestError",
    "Service",
    "Settings",
    "StoppedError",
    "create_app",
    "listen",
    "make_server",
    "read_token",
    "serve",
]
