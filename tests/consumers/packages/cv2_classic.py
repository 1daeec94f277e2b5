import cv2
from packages import cv2 as new

new.ENGINES = [cv2.dnn.ENGINE_CLASSIC]
load = new.load
