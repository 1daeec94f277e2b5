from .codecs import CODECS, VideoOptions
from .overlap import overlapped
from .planes import LAYOUTS, luma_from_network, luma_to_network, resize_chroma
from .upscaling import (
    check_video_format,
    describe_video,
    describe_video_header,
    is_video,
    upscale_video,
    write_frames,
)

__all__ = [
    "CODECS",
    "LAYOUTS",
    "VideoOptions",
    "check_video_format",
    "describe_video",
    "describe_video_header",
    "is_video",
    "luma_from_network",
    "luma_to_network",
    "overlapped",
    "resize_chroma",
    "upscale_video",
    "write_frames",
]
