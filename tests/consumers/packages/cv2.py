import cv2
import numpy as np

ENGINES = []


def load(path):
    net = cv2.dnn.readNetFromONNX(path, *ENGINES)

    def run(image):
        net.setInput(image)
        return np.rint(net.forward()).astype(np.uint8)  # cv2 4 returns floats

    return run
