"""HEIF, including HEIC, by pillow-heif (extra: heif)."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np

from hfdn_deploy.images.codecs import check_installed
from hfdn_deploy.images.depths import stretched
from hfdn_deploy.images.format import CHANNELS, Format, Header
from hfdn_deploy.images.metadata import Metadata
from hfdn_deploy.images.profiles import known_cicp
from hfdn_deploy.images.rows import Banded, Pixels
from hfdn_deploy.images.xmp import upright_xmp


class Heif(Format):
    """HEIF with HEVC: 10 and 12 bits are read as uint16; only 8 bits are written."""

    name = "HEIF"
    suffixes = (".heic", ".heif", ".hif")
    signature = b"....ftyp(hei[cxms]|hev[cxms]|mif[12]|msf1)"
    max_side = 16_384
    lossy = True

    def _read_header(self) -> Header:
        check_installed("a HEIC image", "heif", "pillow_heif")
        from pillow_heif import open_heif

        images = open_heif(self._file, convert_hdr_to_8bit=False, hdr_to_16bit=False)
        self._primary = images[images.primary_index]
        if not all(self._primary.size):  # the file does not state its size
            self._primary.load()
        info: dict[str, Any] = self._primary.info
        self._bits: int = info["bit_depth"]
        # The library already turns the pixels, so the orientation in EXIF does not apply.
        metadata, _ = self._read_metadata(info)
        channels = 1 if self._primary.mode[0] == "I" else CHANNELS[self._primary.mode.split(";")[0]]
        width, height = self._primary.size
        dtype = "uint8" if self._bits <= 8 else "uint16"
        return Header(self.name, width, height, channels, dtype, 1, len(images), metadata)

    def _read_metadata(self, info: dict[Any, Any]) -> tuple[Metadata, int]:
        metadata, orientation = super()._read_metadata(info)
        if colour := info.get("nclx_profile"):
            points = (int(colour[name]) for name in ("color_primaries", "transfer_characteristics"))
            metadata = replace(metadata, cicp=known_cicp(*points))
        return metadata, orientation

    def _decode(self) -> Pixels:
        pixels = np.asarray(self._primary)
        return pixels if self._bits <= 8 else stretched(pixels, self._bits)

    @classmethod
    def why_missing(cls) -> str | None:
        """Return the reason if pillow-heif, which is optional, is missing."""
        if find_spec("pillow_heif"):
            return None
        return "HEIC needs pillow-heif; pip install 'hfdn-deploy[heif]'"

    @classmethod
    def becomes_colour(cls, channels: int, dtype: str) -> bool:
        """Return True for grey with alpha, which is decoded as colour anyway."""
        return channels == 2

    @classmethod
    def write(
        cls, file: BinaryIO, image: Banded, metadata: Metadata, quality: int | None = None
    ) -> None:
        """Write an image; see `Format`."""
        from pillow_heif import register_heif_opener

        register_heif_opener()  # it also registers the encoder with Pillow
        super().write(file, image, metadata, quality)

    @classmethod
    def _metadata_options(cls, metadata: Metadata) -> dict[str, Any]:
        # The library would turn the image by the orientation in XMP.
        xmp = metadata.xmp and upright_xmp(metadata.xmp)
        return super()._metadata_options(replace(metadata, xmp=xmp))

    @classmethod
    def _encoder_options(cls, quality: int | None) -> dict[str, Any]:
        # No subsampling: it visibly blurs colour.
        return {"quality": quality or 90, "chroma": 444}
