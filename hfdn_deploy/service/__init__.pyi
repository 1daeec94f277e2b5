from .app import create_app
from .batcher import Batcher
from .limits import Limits, RequestError
from .models import BATCH, ModelSettings
from .pictures import read_header
from .server import listen, make_server
from .service import Service, Settings, read_token

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
    "read_header",
    "read_token",
]
