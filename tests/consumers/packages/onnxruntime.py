import onnxruntime as ort


def load(path):
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]
