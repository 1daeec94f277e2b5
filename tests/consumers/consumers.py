"""The other packages that run image graphs, and how each is installed and run."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Consumer:
    """Another package, which is installed in its own environment."""

    name: str
    install: tuple[str, ...]
    """Arguments of each call of `pip install`, or for Node of `npm install`."""
    package: str
    """Module in `packages` that runs the consumer; "node" for run.js."""
    graphs: tuple[str, ...] = ("", "--precision int8")
    """Options of `export image`, one entry per graph."""
    versions: tuple[str, ...] = ()
    """Names of the packages whose versions are reported; by default that of the module."""
    must_agree: bool = False
    """Whether at least one of its graphs must agree."""


FIXED = "--size {width}x{height}"
CONSUMERS = (
    Consumer("onnxruntime 1.17", ("onnxruntime==1.17.* numpy<2",), "onnxruntime", must_agree=True),
    Consumer("onnxruntime", ("onnxruntime",), "onnxruntime"),
    Consumer(
        "onnxruntime-node",
        ("onnxruntime-node",),
        "node",
        versions=("onnxruntime-node",),
        must_agree=True,
    ),
    Consumer("tract", ("tract",), "tract", must_agree=True),
    Consumer(
        "ncnn through pnnx",
        ("ncnn", "--no-deps pnnx"),  # pnnx depends on torch, but its program does not need it
        "ncnn",
        ("", "--layout nchw --dtype float32", "--layout nchw --dtype float32 --precision int8"),
        ("ncnn", "pnnx"),
        must_agree=True,
    ),
    Consumer(
        "cv2.dnn 4",
        ("opencv-python-headless<5",),
        "cv2",
        ("", FIXED, f"{FIXED} --precision int8"),
        ("opencv-python-headless",),
    ),
    Consumer(
        "cv2.dnn 5",
        ("opencv-python-headless>=5",),
        "cv2",
        versions=("opencv-python-headless",),
    ),
    Consumer(
        "cv2.dnn 5, ENGINE_CLASSIC",
        ("opencv-python-headless>=5",),
        "cv2_classic",
        versions=("opencv-python-headless",),
    ),
    Consumer(
        "onnx2torch",
        ("torch onnx", "--no-deps onnx2torch"),
        "onnx2torch",
        ("", "--opset 13", "--opset 13 --precision int8"),
    ),
    Consumer("openvino", ("openvino",), "openvino", ("", "--precision int8 --engine openvino")),
    Consumer("polygraphy", ("polygraphy onnx_graphsurgeon onnxruntime",), "polygraphy"),
    Consumer("onnxslim", ("onnxslim onnxruntime",), "onnxslim"),
)


def install(consumer: Consumer, folder: Path) -> tuple[list[str], str]:
    """Install a consumer if necessary; return the start of its command and its versions.

    Raises:
        subprocess.CalledProcessError: pip or npm fails.
        FileNotFoundError: npm is not installed.
    """
    place = folder.resolve() / consumer.name.replace(" ", "-")
    ready = place / "ready"
    done = ready.is_file() and ready.read_text() == repr(consumer.install)
    if consumer.package == "node":
        at = ["--prefix", str(place)]
        if not done:
            # The package's install script would download CUDA.
            output("npm", "install", "--ignore-scripts", *at, *consumer.install)
        listed = json.loads(output("npm", "list", "--json", *at))["dependencies"]
        found = {name: entry["version"] for name, entry in listed.items()}
        command = ["env", f"NODE_PATH={place}/node_modules", "node", f"{HERE}/run.js"]
    else:
        python = f"{place}/bin/python"
        if not done:
            output(sys.executable, "-m", "venv", "--clear", str(place))
            for arguments in consumer.install:
                output(python, "-m", "pip", "install", *arguments.split())
        listed = json.loads(output(python, "-m", "pip", "list", "--format", "json"))
        found = {entry["name"]: entry["version"] for entry in listed}
        command = [python, f"{HERE}/run.py", consumer.package]
    ready.write_text(repr(consumer.install))
    versions = consumer.versions or (consumer.package,)
    return command, ", ".join(found[name] for name in versions)


def output(*command: str) -> str:
    """Run a command without a terminal and return its output."""
    return subprocess.run(
        command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL
    ).stdout
