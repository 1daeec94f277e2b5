"""Networks that a user gives as ONNX files, to be compared with HFDN on images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from benchmarks.pictures import Luma
from export.sessions import Run, candidate
from hfdn_deploy.bench import PEAK, crop_to_multiple, luma8, to_levels
from hfdn_deploy.errors import GateError, InputError
from hfdn_deploy.images import imresize, read_image

# Side of the input that shows what a graph does.
_PROBE = 32


@dataclass(frozen=True)
class Given:
    """A super-resolution network of luma or RGB in [0, 1], given as an ONNX file."""

    name: str
    run: Run
    channels: int
    """1 (luma) or 3 (RGB), in and out."""
    factor: int
    """Upscaling factor; 1 for a network that works on the bicubic-upscaled image."""

    @classmethod
    def open(cls, name: str, path: Path) -> "Given":
        """Open a graph of one input (1, C, H, W) and find out what it does by running it.

        Raises:
            InputError: it is not an ONNX file, or no such network.
        """
        try:
            model = onnx.load(path)
            channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
        except OSError as error:
            raise InputError(
                f"{path} cannot be read: {error.strerror}; name an ONNX file."
            ) from None
        except (DecodeError, IndexError):
            raise InputError(f"{path} is not an ONNX graph; export the network to ONNX.") from None
        if channels not in (1, 3):
            raise InputError(f"{path} does not take luma or RGB as (1, C, H, W); export it so.")
        try:
            run = candidate(model)
            shape = run(np.zeros((1, channels, _PROBE, _PROBE), np.float32)).shape
        except GateError as error:
            raise InputError(f"{path}: {error.reason}; export it with variable sizes.") from None
        factor = shape[-1] // _PROBE
        if factor not in (1, 2, 3, 4) or shape != (1, channels, factor * _PROBE, factor * _PROBE):
            raise InputError(
                f"{path} makes {shape} of {_PROBE}×{_PROBE} pixels; give a network that upscales "
                "by 2, 3 or 4, or takes an upscaled image."
            )
        return cls(name, run, channels, factor)

    def upscaled(self, path: Path, scale: int) -> Luma:
        """Degrade an original as in the published tables, upscale it, and return 8-bit luma.

        RGB networks get a colour image in colour, and luma is taken of their rounded result. They
        get a grey image, which is luma itself, three times, and the mean is taken.
        """
        image = read_image(path).astype(np.uint8, casting="no", copy=False)
        colour = self.channels == 3 and image.ndim == 3 and image.shape[2] > 2
        hr = image[..., :3] if colour else np.dstack([luma8(image)] * self.channels)
        lr = imresize(crop_to_multiple(hr, scale), 1 / scale)
        if self.factor == 1:
            lr = imresize(lr, scale)
        planes = np.atleast_3d(lr / PEAK).astype(np.float32).transpose(2, 0, 1)
        result = self.run(planes[None])[0].transpose(1, 2, 0) * PEAK
        return luma8(to_levels(result)) if colour else to_levels(result.mean(axis=2))
