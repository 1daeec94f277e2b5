"""ncnn, on planar float graphs converted by pnnx's program (pnnx's Python package needs torch)."""

import subprocess
from importlib.util import find_spec
from pathlib import Path

import ncnn
import numpy as np

SHAPES = ["inputshape=[1,3,64,96]f32", "inputshape2=[1,3,80,48]f32", "fp16=0"]


def load(path):
    graph = Path(path)
    program = Path(find_spec("pnnx").origin).with_name("pnnx")
    subprocess.run([program, graph.name, *SHAPES], cwd=graph.parent, check=True)
    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(graph.with_suffix(".ncnn.param"))):
        raise ValueError("ncnn cannot read the output of pnnx")
    net.load_model(str(graph.with_suffix(".ncnn.bin")))

    def run(image):
        planes = np.ascontiguousarray(image[0].transpose(2, 0, 1), np.float32) / 255
        with net.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(planes))
            upscaled = np.array(extractor.extract("out0")[1])
        return np.rint(upscaled.transpose(1, 2, 0) * 255).astype(np.uint8)[None]

    return run
