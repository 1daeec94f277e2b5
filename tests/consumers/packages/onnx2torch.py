import sys
from unittest.mock import MagicMock

# Only NMS and RoIAlign, which no graph here has, need torchvision, which may not match a CPU build
# of torch.
sys.modules["torchvision"] = sys.modules["torchvision.ops"] = MagicMock()

import torch  # noqa: E402
from onnx2torch import convert  # noqa: E402


def load(path):
    network = convert(path).eval()

    def run(image):
        with torch.inference_mode():
            return network(torch.from_numpy(image)).numpy()

    return run
