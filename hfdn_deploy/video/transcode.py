"""Decode, upscale and encode at the same time, each in its thread."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import named
from hfdn_deploy.tiling import Plan
from hfdn_deploy.upscaler import Upscaler
from hfdn_deploy.video.overlap import overlapped
from hfdn_deploy.video.planes import (
    Layout,
    Samples,
    luma_from_network,
    luma_to_network,
    upscale_chroma,
)
from hfdn_deploy.video.sink import open_sink
from hfdn_deploy.video.source import Item, VideoSource, is_full_range, open_source

# Frames and packets that decoder or network may be ahead of what takes them.
DEPTH = 4


def transcode(
    up: Upscaler, path: Path, target: Path, keep_metadata: bool, overwrite: bool
) -> dict[str, Any]:
    """What `upscale_video` does, once PyAV is there; same arguments, results and errors."""
    frames = 0
    with open_source(path) as source:
        luma = source.first.height, source.first.width
        with named(path):
            plan = up.plan(luma, held_as=np.float32)
        with (
            replaced(target, overwrite=overwrite) as temporary,
            open_sink(temporary, target, source, up.scale, keep_metadata) as sink,
            overlapped(source.items, DEPTH) as decoded,
            overlapped((_upscale(up, item, source, plan) for item in decoded), DEPTH) as upscaled,
            tqdm(total=source.frame_count, unit="frame", disable=None) as progress,
        ):
            for item in upscaled:
                sink.write(item)
                if isinstance(item, av.VideoFrame):
                    frames += 1
                    progress.update()
            sink.finish()
    size = {"width": sink.video.width, "height": sink.video.height}
    return {**size, "frames": frames, "tile": plan.side}


def _upscale(up: Upscaler, item: Item, source: VideoSource, plan: Plan) -> Item:
    """A frame `scale` times as large, with the same time and colour; packets pass."""
    if isinstance(item, av.Packet):
        return item
    layout = source.layout
    result = av.VideoFrame(up.scale * item.width, up.scale * item.height, layout.format)
    result.pts, result.time_base, result.duration = item.pts, item.time_base, item.duration
    result.color_range, result.colorspace = item.color_range, item.colorspace
    result.color_primaries, result.color_trc = item.color_primaries, item.color_trc
    full = is_full_range(item)
    luma = luma_to_network(_samples(item, 0, layout), layout.bits, full)
    with named(source.path):
        luma = up.upscale_luma(luma, plan)
    _samples(result, 0, layout)[:] = luma_from_network(luma, layout.bits, full)
    for index in range(1, len(item.planes)):
        large = _samples(result, index, layout)
        large[:] = upscale_chroma(_samples(item, index, layout), large.shape, up.scale, layout)
    return result


def _samples(frame: av.VideoFrame, index: int, layout: Layout) -> Samples:
    """A view of a plane, (H, W)."""
    plane = frame.planes[index]
    rows: Samples = np.frombuffer(memoryview(plane), layout.dtype).reshape(plane.height, -1)
    # Some decoders write bottom up.
    return rows[:: 1 if plane.line_size > 0 else -1, : plane.width]
