"""Completeness of a video file, as far as its structure shows it.

FFmpeg's demuxers read as much as they can. They report a broken element of Matroska as the end of
the file, and skip the tracks of an MP4 whose description is cut off.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import InputContainer

from hfdn_deploy.errors import InputError

# Matroska's elements (RFC 9559), and the elements to walk into, by their parent.
_SEGMENT, _TRACKS, _TRACK, _CLUSTER, _GROUP = 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675, 0xA0
_INSIDE = {_SEGMENT: (_TRACKS, _CLUSTER), _TRACKS: (_TRACK,), _CLUSTER: (_GROUP,)}
_TRACK_NUMBER, _BLOCKS = 0xD7, (0xA1, 0xA3)
# Elements that end a cluster of unknown size: tracks, cluster, seek head, info, cues, attachments,
# chapters and tags, and the header of another file behind this one.
_EBML = 0x1A45DFA3
_ENDS = (
    _TRACKS, _CLUSTER, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367, _EBML
)  # fmt: skip


# The GUID of ASF's File Properties Object, which has the file's size.
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_AVI_SLACK = 12

# Decoders that return one frame for each packet, in the order of the packets or not. In VP8 and
# MPEG-4, a packet may show no frame.
_IN_ORDER = ("mjpeg", "ffv1", "prores", "dnxhd")
_ONE_EACH = (*_IN_ORDER, "h264", "hevc", "vp9", "libdav1d", "mpeg2video")


def check_whole(path: Path, container: InputContainer) -> None:
    """Refuse a file whose structure shows that it is truncated or damaged.

    Formats for recordings and broadcasts (MPEG, AVI without a size) may end anywhere.

    Raises:
        InputError: the file is truncated or damaged.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        match container.format.name.partition(",")[0]:
            case "matroska":
                end = _Matroska(file, path).check(size)
            case "mov":
                end = max(_mp4_end(file, path, size), _samples_end(container))
            case "avi":
                end = _avi_end(file, size)
            case "asf":
                end = _asf_end(file)
            case "flv":
                end = _end_of_parts(file, size, 13, _flv_tag)
            case "ogg":
                end = _end_of_parts(file, size, 0, _ogg_page)
            case _:
                return
    if end > size:
        raise InputError(f"{path} is truncated: {size} bytes of at least {end}; copy it again.")


def _damaged(path: Path, position: int) -> InputError:
    return InputError(f"{path} is damaged or truncated at byte {position}; copy it again.")


def _samples_end(container: InputContainer) -> int:
    """Return the byte after the last frame or packet in the index of an MP4."""
    entries = (entry for stream in container.streams for entry in stream.index_entries)
    return max((entry.pos + entry.size for entry in entries), default=0)


def _mp4_end(file: BinaryIO, path: Path, size: int) -> int:
    """Return the byte after the last box of an MP4 (ISO/IEC 14496-12), by its size.

    Raises:
        InputError: a fragment is followed by data that is not a box.
    """
    end = 0
    fragments = False
    while end + 8 <= size:
        file.seek(end)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if not kind.isalnum():
            # Other data is harmless in a file with an index. Fragments have no index, and more
            # fragments may follow the data.
            if fragments and any(head):
                raise _damaged(path, end)
            break
        fragments |= kind == b"moof"
        if length == 1:
            length = int.from_bytes(head[8:])
        if length < 8:  # 0: up to the end of the file
            break
        end += length
    return end


def _avi_end(file: BinaryIO, size: int) -> int:
    """Return the byte after the last RIFF of an AVI; above 1 GiB there are several (OpenDML).

    Interrupted recorders leave sizes of 0, and some programs count the header twice.
    """
    end = 0
    while end + 12 <= size:
        file.seek(end)
        head = file.read(12)
        length = int.from_bytes(head[4:8], "little")
        if head[:4] != b"RIFF" or not length:
            break
        end += 8 + length + length % 2
    return end - _AVI_SLACK


def _asf_end(file: BinaryIO) -> int:
    """Return the size in an ASF's header; 0 if there is none or the file was broadcast."""
    header = file.read(2**16)
    properties = header.find(_ASF_FILE_PROPERTIES)
    if properties < 0 or len(header) < properties + 92:
        return 0
    broadcast = header[properties + 88] & 1
    return 0 if broadcast else int.from_bytes(header[properties + 40 : properties + 48], "little")


def _end_of_parts(
    file: BinaryIO, size: int, end: int, length: Callable[[BinaryIO], int | None]
) -> int:
    """Return the byte after the last tag or page that begins in a file.

    Args:
        file: the file.
        size: its size in bytes.
        end: where the first tag or page begins.
        length: returns the length of the tag or page at the file's position; None if there is
            none.
    """
    while end < size:
        file.seek(end)
        if (step := length(file)) is None:
            break
        end += step
    return end


def _flv_tag(file: BinaryIO) -> int | None:
    head = file.read(4)
    if len(head) < 4 or head[0] & 0x1F not in (8, 9, 18):
        return None
    return 11 + int.from_bytes(head[1:]) + 4


def _ogg_page(file: BinaryIO) -> int | None:
    head = file.read(27)
    if len(head) < 27 or head[:4] != b"OggS":
        return None
    return 27 + head[26] + sum(file.read(head[26]))


class Owed:
    """The times of packets whose frames are still missing; reveals frames that never come.

    Frames come in the order of their times, and decoders skip a frame that they cannot read.
    """

    def __init__(self, path: Path, decoder: str, container: str) -> None:
        self._path = path
        # AVI has no times of frames that are out of order.
        self._counts = decoder in (_IN_ORDER if container == "avi" else _ONE_EACH)
        self._times: set[int] = set()
        self._first: int | None = None

    def add(self, packet: "av.Packet[Any]") -> None:
        """Expect the frame of a packet that is passed to the decoder."""
        if self._counts and packet.size and packet.pts is not None and not packet.is_discard:
            self._times.add(packet.pts)

    def settle(self, frame: av.VideoFrame | None) -> None:
        """Note a decoded frame; None stands for the end.

        Raises:
            InputError: an earlier frame is missing. Frames before the very first do not count: a
                video that was cut may begin amid a group of pictures.
        """
        if frame is not None and frame.interlaced_frame:
            # Its second field may have been a separate packet.
            self._counts = False
        if not self._counts:
            return
        now = frame.pts if frame is not None else None
        if self._first is None:
            self._first = now
        past = {time for time in self._times if now is None or time <= now}
        self._times -= past
        if self._first is not None and any(self._first <= time != now for time in past):
            at = "the end" if frame is None else f"{frame.time:.3f} s"
            raise InputError(
                f"{self._path} is damaged: a frame before {at} is missing; copy it again."
            )


class _Matroska:
    """A walk over the headers of elements (RFC 8794), down to the blocks of frames."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._tracks: set[int] = set()

    def check(self, size: int) -> int:
        """Walk a file of `size` bytes; return where its first segment should end.

        Raises:
            InputError: an element is broken or longer than its parent.
        """
        end = 0
        # The EBML header, then the segment.
        for _ in range(2):
            self._file.seek(end)
            element, length = self._head()
            end = size if length is None else self._file.tell() + length
            if end <= size and element == _SEGMENT:
                self._walk(end, _SEGMENT)
        return end

    def _walk(self, end: int, parent: int) -> None:
        """Check the elements from here to `end`, or to the first element that ends `parent`."""
        while (start := self._file.tell()) < end:
            element, length = self._head()
            if element == _EBML or (parent == _CLUSTER and element in _ENDS):
                self._file.seek(start)
                return
            content = self._file.tell()
            last = end if length is None else content + length
            inside = element in _INSIDE.get(parent, ())
            if last > end or (length is None and not inside):
                raise _damaged(self._path, start)
            if inside:
                self._walk(last, element)
                continue
            if element == _TRACK_NUMBER:
                self._tracks.add(int.from_bytes(self._file.read(last - content)))
            elif element in _BLOCKS and self._number(8)[0] not in self._tracks:
                raise _damaged(self._path, start)
            self._file.seek(last)

    def _head(self) -> tuple[int, int | None]:
        """Return an element's ID and the length of its content in bytes, None if unknown."""
        element, size = self._number(4, marked=True)
        length, size = self._number(8)
        return element, None if length == (1 << 7 * size) - 1 else length

    def _number(self, most: int, marked: bool = False) -> tuple[int, int]:
        """Return a number of at most `most` bytes, with or without its marker, and its length."""
        start = self._file.tell()
        first = self._file.read(1)
        # The number of leading zero bits is the number of bytes that follow.
        size = 9 - first[0].bit_length() if first else most + 1
        rest = self._file.read(size - 1) if size <= most else b""
        if size > most or len(rest) < size - 1:
            raise _damaged(self._path, start)
        number = int.from_bytes(first + rest)
        return (number if marked else number & ((1 << 7 * size) - 1)), size
