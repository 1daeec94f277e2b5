from polygraphy.backend.onnx import BytesFromOnnx, FoldConstants, OnnxFromPath
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx


def load(path):
    folded = FoldConstants(OnnxFromPath(path), error_ok=False)
    runner = OnnxrtRunner(SessionFromOnnx(BytesFromOnnx(folded)))

    def run(image):
        with runner:
            return runner.infer({"image": image})["upscaled"]

    return run
