"""Transcoding: decoding, upscaling and encoding run concurrently, in threads."""

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

# Frames and packets by which decoder and network may be ahead of their consumers.
DEPTH = 4
# The assumed number of frames of a video whose header does not give it.
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
    """Implement `upscale_video`: same arguments, results and errors."""
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
    """The upscaling of a frame, planned once for a video."""

    def __init__(self, up: Upscaler, source: VideoSource) -> None:
        """Choose the size and the colour tags of the result."""
        first = source.first
        self._up = up
        self._source = source
        # Sides must be multiples of the chroma subsampling; a target size means the rotated video.
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
                "%s: colour tags are missing; the result gets the tags of %s, which players assume "
                "at %d×%d but not at %d×%d.", source.path, standard, *before, *after,
            )  # fmt: skip

    def prepare(self) -> int:
        """Plan how frames reach the size; return the number of threads to upscale frames in.

        Raises:
            InputError: memory does not suffice, or two passes of the network do not reach the
                size.
        """
        shape = self._source.first.height, self._source.first.width
        number = self._source.frame_count or _UNTOLD
        with named(self._source.path):
            self.plan, threads = self._up.plan_many(
                shape, np.float32, number, self._wanted, self._multiples
            )
        return max(1, threads - 1)  # one is left for decoding and encoding

    def blank(self) -> av.VideoFrame:
        """Return an output frame without content: size, format, colour tags and time base."""
        first = self._source.first
        frame = av.VideoFrame(self.width, self.height, self._source.layout.format)
        frame.time_base, frame.color_range = first.time_base, first.color_range
        self._colours.write_to(frame)
        return frame

    def __call__(self, item: Item) -> Item:
        """Return the upscaled frame, with the same timestamp; packets pass unchanged."""
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
    """Return a view of a plane, (H, W)."""
    plane = frame.planes[index]
    rows: Samples = np.frombuffer(memoryview(plane), layout.dtype).reshape(plane.height, -1)
    # Some decoders store rows from bottom to top.
    return rows[:: 1 if plane.line_size > 0 else -1, : plane.width]
