"""Upscale an image with a model on Triton Inference Server.

    python -m export triton BUNDLE -o model_repository
    tritonserver --model-repository model_repository
    python examples/triton_client.py photo.png out.png --model hfdn_x4_fp16

Only luma is sent; colour and alpha are processed here, as with every other backend.
Requires `pip install 'tritonclient[http]'`.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hfdn_deploy import Upscaler
from hfdn_deploy.backends import Backend
from hfdn_deploy.images import read_image, write_image


class TritonBackend(Backend):
    """A model on a Triton server, as a backend of `Upscaler`."""

    name = "triton"
    concurrency = 4

    def __init__(self, url: str, model: str) -> None:
        from tritonclient import http

        self._http = http
        self._client = http.InferenceServerClient(url, concurrency=self.concurrency)
        self._model = model
        self.scale = int(model.split("_x")[1][0])
        self.precision = model.split("_")[2]

    def run(self, lr: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `hfdn_deploy.backends.Backend.run`."""
        tensor = self._http.InferInput("lr", lr.shape, "FP32")
        tensor.set_data_from_numpy(lr)
        result: NDArray[np.float32] = self._client.infer(self._model, [tensor]).as_numpy("sr")
        return result

    def close(self) -> None:
        """See `hfdn_deploy.backends.Backend.close`."""
        self._client.close()


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="hfdn_x4_fp16")
    parser.add_argument("--url", default="localhost:8000")
    args = parser.parse_args()
    with Upscaler(TritonBackend(args.url, args.model), "triton") as up:
        write_image(args.output, up(read_image(args.input)))


if __name__ == "__main__":
    main()
