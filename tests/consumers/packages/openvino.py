import openvino as ov


def load(path):
    # Without the hint, some CPUs compute in bfloat16.
    compiled = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda image: compiled([image])[0]
