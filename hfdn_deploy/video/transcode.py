"""Decode, upscale and encode at the same time, each in its thread."""

import logging
from pathlib import Path
from typing import Any

import av
import numpy as np

from hfdn_deploy.atomic import replaced
from hfdn_deploy.errors import named
from hfdn_deploy.tiling import Progress
from hfdn_deploy.upscaler import ImagePlan, Upscaler, mapped
from hfdn_deploy.video.codecs import VideoOptions
from hfdn_deploy.video.colours import Colours, is_full_range, kept
from hfdn_deploy.video.encoding import check_encoder
from hfdn_deploy.video.overlap import overlapped
from hfdn_deploy.video.planes import (
    Layout,
    Samples,
    luma_from_network,
    luma_to_network,
    resize_chroma,
)
from hfdn_deploy.video.sink import open_sink
from hfdn_deploy.video.source import VideoSource, open_source
from hfdn_deploy.video.times import Item

logger = logging.getLogger(__name__)

# Frames and packets that decoder or network may be ahead of what takes them.
DEPTH = 4
# Frames of a video that does not say how many it has.
_UNTOLD = 250


def transcode(
    up: Upscaler,
    path: Path,
    target: Path,
    keep_metadata: bool,
    options: VideoOptions,
    *,
    overwrite: bool,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """What `upscale_video` does, once PyAV is there; same arguments, results and errors."""
    check_encoder(options.codec_for(target))
    frames = 0
    with open_source(path, deinterlace=options.deinterlace) as source:
        each = _Upscaling(up, source)
        with (
            replaced(target, overwrite=overwrite) as temporary,
            open_sink(temporary, target, source, each.blank(), options, keep_metadata) as sink,
        ):
            threads = each.prepare()
            with (
                overlapped(source.items, DEPTH) as decoded,
                mapped(each, decoded, threads) as results,
                overlapped(results, DEPTH) as upscaled,
            ):
                for item in upscaled:
                    sink.write(item)
                    if isinstance(item, av.VideoFrame):
                        frames += 1
                        if progress:
                            progress(frames, source.frame_count or 0)
                sink.finish()
        tile = each.plan.side if each.plan else None
    return {"width": each.width, "height": each.height, "frames": frames, "tile": tile}


class _Upscaling:
    """How every frame of a video is upscaled."""

    def __init__(self, up: Upscaler, source: VideoSource) -> None:
        """Decide the size."""
        first = source.first
        self._up = up
        self._source = source
        # Encoders want luma for every sample of the chroma, and people mean what players show.
        self._multiples = source.layout.subsampling or (1, 1)
        sideways = source.display_matrix and not source.display_matrix[0]
        self._wanted = up.target.turned() if sideways else up.target
        self.width, self.height = self._wanted.of(first.width, first.height, self._multiples)
        self.plan: ImagePlan | None = None
        before, after = (first.width, first.height), (self.width, self.height)
        tags = Colours.of(first)
        self._colours = kept(tags, before, after) if source.layout.subsampling else tags
        if self._colours != tags:
            standard = "BT.709" if self._colours.matrix == 1 else "BT.601"
            logger.info(
                "%s: colour tags are missing; the result gets those of %s, which players assume at "
                "%d×%d but not at %d×%d.", source.path, standard, *before, *after,
            )  # fmt: skip

    def prepare(self) -> int:
        """Decide how a frame comes to the size; returns in how many threads frames do.

        Raises:
            InputError: memory does not suffice, or two networks do not reach the size.
        """
        shape = self._source.first.height, self._source.first.width
        number = self._source.frame_count or _UNTOLD
        with named(self._source.path):
            self.plan, threads = self._up.plan_many(
                shape, np.float32, number, self._wanted, self._multiples
            )
        return max(1, threads - 1)  # as others decode and encode

    def blank(self) -> av.VideoFrame:
        """Return a frame as all of the result are, without its content."""
        first = self._source.first
        frame = av.VideoFrame(self.width, self.height, self._source.layout.format)
        frame.time_base, frame.color_range = first.time_base, first.color_range
        self._colours.write_to(frame)
        return frame

    def __call__(self, item: Item) -> Item:
        """Return a frame of the plan's size, at the same time; packets pass."""
        if isinstance(item, av.Packet):
            return item
        layout = self._source.layout
        result = self.blank()
        result.pts, result.duration = item.pts, item.duration
        full = is_full_range(item)
        luma = luma_to_network(_samples(item, 0, layout), layout.bits, full)
        with named(self._source.path):
            luma = self._up.upscale_luma(luma, self.plan)
        _samples(result, 0, layout)[:] = luma_from_network(luma, layout.bits, full)
        for index in range(1, len(item.planes)):
            large = _samples(result, index, layout)
            scales = self.height / item.height, self.width / item.width
            large[:] = resize_chroma(_samples(item, index, layout), large.shape, scales, layout)
        return result


def _samples(frame: av.VideoFrame, index: int, layout: Layout) -> Samples:
    """A view of a plane, (H, W)."""
    plane = frame.planes[index]
    rows: Samples = np.frombuffer(memoryview(plane), layout.dtype).reshape(plane.height, -1)
    # Some decoders write bottom up.
    return rows[:: 1 if plane.line_size > 0 else -1, : plane.width]
