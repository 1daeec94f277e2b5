import numpy as np
import tract


def load(path):
    graph = tract.onnx().load(path)
    graph.set_input_fact(0, "1,H,W,3,u8")
    graph.set_output_fact(0, None)
    runnable = graph.into_model().into_runnable()
    return lambda image: runnable.run([np.ascontiguousarray(image)])[0].to_numpy()
