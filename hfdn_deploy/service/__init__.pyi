from .app import create_app
from .batcher import Batcher
from .limits import Limits, RequestError
from .models import BATCH, ModelSettings
from .server import listen, make_server, serve
from .service import Service, Settings
from .token import TOKEN, read_token

__all__ = [
    "BATCH",
    "TOKEN",
    "Batcher",
    "Limits",
    "ModelSettings",
    "RequestError",
    "Service",
    "Settings",
    "create_app",
    "listen",
    "make_server",
    "read_token",
    "serve",
]
