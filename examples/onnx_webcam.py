"""Landmarks of the largest face of a camera, or of a video file; needs numpy, OpenCV and onnxruntime alone.

usage: python onnx_webcam.py face68.onnx [VIDEO]     (q ends it)
The file: python -m tsal export --out face68.onnx
"""

import sys

import cv2
import numpy as np
import onnxruntime

if len(sys.argv) < 2:
    sys.exit(__doc__)
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map
side, box_scale = int(facts["input"]), float(facts["box_scale"])
finder = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
video = cv2.VideoCapture(sys.argv[2] if len(sys.argv) > 2 else 0)
if not video.isOpened():
    sys.exit(f"{sys.argv[2] if len(sys.argv) > 2 else 'camera 0'}: cannot be opened")
while True:
    there, image = video.read()
    if not there or cv2.waitKey(1) == ord("q"):
        break
    found = finder.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1.1, 5, minSize=(60, 60))
    if len(found):
        x, y, width, _ = max(found, key=lambda box: box[2])
        # the landmarks' tight box is 0.9 times as wide as the cascade's, and lower by 0.15 of it
        size = round(0.9 * width * box_scale)
        middle = np.array([x + (width - 1) / 2, y + (width - 1) / 2 + 0.15 * width])
        square = cv2.getRectSubPix(image, (size, size), middle)
        crop = cv2.cvtColor(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        points, scores = session.run(None, {"crops": crop.transpose(2, 0, 1)[None].astype(np.float32) / 255})
        for point in (points[0] + 0.5) * size / side - 0.5 + middle - (size - 1) / 2:
            cv2.circle(image, tuple(int(value) for value in point.round()), 2, (0, 255, 0), -1)
    cv2.imshow("landmarks", image)
