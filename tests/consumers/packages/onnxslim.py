import onnxruntime as ort
import onnxslim


def load(path):
    slim = onnxslim.slim(path).SerializeToString()
    session = ort.InferenceSession(slim, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]
