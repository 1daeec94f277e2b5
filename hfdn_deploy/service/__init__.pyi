from .app import create_app
from .batcher import Batcher
from .limits import Limits, RequestError
from .models import BATCH, ModelSettings
from .server import listen, make_server
from .service import Service, Settings

__all__ = [
    "BATCH",
    "Batcher",
    "Limits",
    "ModelSettings",
    "RequestError",
    "Service",
    "Settings",
    "create_app",
    "listen",
    "make_server",
]
