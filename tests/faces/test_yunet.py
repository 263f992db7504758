"""YuNet's boxes become landmark boxes in px of the image; its model file is named, found and readable, or one line says
so.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import pytest

from tsal.faces.yunet import YuNet
from tsal.utils.boxes import iou
from tsal.utils.errors import InputError


@pytest.fixture()
def yunet(tmp_path, monkeypatch):
    """A finder that says what it is told to; it keeps the images and sizes that OpenCV was given."""

    class Says:
        rows, images, sizes, instances = [], [], [], 0

        def setInputSize(self, size):
            self.sizes.append(size)

        def detect(self, image):
            self.images.append(image)
            return 1, np.array(self.rows, np.float32) if self.rows else None

    def create(*_):
        Says.instances += 1
        return Says()

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", create)
    (tmp_path / "model.onnx").touch()
    find = YuNet(tmp_path / "model.onnx")
    Says.images.clear(), Says.sizes.clear()  # of the trial
    return find, Says


def row(x, y, width, height, score) -> list[float]:
    return [x, y, width, height, *[0.0] * 10, score]


def test_boxes_are_made_as_tight_as_landmarks_best_first_and_small_ones_are_left_out(yunet):
    find, says = yunet
    says.rows = [row(10, 20, 41, 80, 0.7), row(100, 20, 21, 40, 0.9), row(150, 50, 10, 10, 0.99)]
    first, second = find(np.zeros((200, 300, 3), np.uint8), min_face=0.1)
    # centre (30, 59.5), an eighth of the height lower; 1.05 as wide, 0.775 as high
    assert second == pytest.approx([30 - 21.525, 69.5 - 31, 30 + 21.525, 69.5 + 31])
    assert first == pytest.approx([110 - 11.025, 44.5 - 15.5, 110 + 11.025, 44.5 + 15.5])
    assert says.sizes == [(300, 200)] and says.images[0].shape == (200, 300, 3)


def test_a_face_whose_landmarks_lie_below_the_image_is_left_out(yunet):
    find, says = yunet
    says.rows = [row(100, 182, 80, 80, 0.9), row(10, 20, 41, 80, 0.7)]
    [box] = find(np.zeros((200, 300, 3), np.uint8), min_face=0.1)
    assert box == pytest.approx([30 - 21.525, 69.5 - 31, 30 + 21.525, 69.5 + 31])


def test_two_finds_of_one_face_are_the_better_one(yunet):
    find, says = yunet
    says.rows = [row(30, 40, 30, 30, 0.7), row(10, 20, 80, 80, 0.9)]
    [box] = find(np.zeros((200, 300, 3), np.uint8))
    assert box == pytest.approx([49.5 - 42, 69.5 - 31, 49.5 + 42, 69.5 + 31])


def test_a_large_image_is_shrunk_and_its_boxes_are_in_its_own_px(yunet):
    find, says = yunet
    image = np.zeros((640, 1280, 3), np.uint8)
    image[..., 0] = 200  # red
    says.rows = [row(10, 20, 40, 40, 0.9)]
    (box,) = find(image)
    assert says.sizes == [(640, 320)] and says.images[0][0, 0].tolist() == [0, 0, 200]
    centre, half = np.array([29.5, 44.5]), np.array([21, 15.5])
    small = np.concatenate([centre - half, centre + half])
    assert box == pytest.approx((small + 0.5) * 2 - 0.5)


def test_a_strip_is_shrunk_too(yunet):
    find, says = yunet
    find(np.zeros((80, 5120, 3), np.uint8))  # twice as long as the longest side
    assert says.sizes == [(2560, 40)]


def test_no_face_is_no_box(yunet):
    assert yunet[0](np.zeros((50, 50, 3), np.uint8)).shape == (0, 4)


def test_each_thread_has_a_detector_of_its_own(yunet):
    find, says = yunet
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            pool.submit(find, np.zeros((50, 50, 3), np.uint8)).result()
    assert says.instances == 2  # this thread's, to see that the model can be read, and the pool's


def test_what_is_wrong_with_the_model_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("TSAL_FACE_MODEL", raising=False)
    (tmp_path / "broken.onnx").write_bytes(b"no model at all")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 320, 320])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 320, 320])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "other", [value], [result])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")
    for model, said in (
        (None, "name its model file"),
        (tmp_path / "none.onnx", "no such model file"),
        (tmp_path / "broken.onnx", "cannot run it as YuNet"),
        (tmp_path / "other.onnx", "cannot run it as YuNet"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            YuNet(model)
        assert len(str(caught.value).splitlines()) == 1
    monkeypatch.setenv("TSAL_FACE_MODEL", str(tmp_path / "none.onnx"))
    with pytest.raises(InputError, match=r"none.onnx: no such model file \(TSAL_FACE_MODEL\)"):
        YuNet()


def test_real_faces_are_found_where_their_landmarks_are(realdata):
    if not os.environ.get("TSAL_FACE_MODEL"):
        pytest.skip("TSAL_FACE_MODEL names no model file of YuNet")
    find, best = YuNet(), []
    for line in (realdata / "lists" / "YTF.val.GTB").read_text().splitlines()[::23]:
        image, _, *box = line.split()
        detections = find(cv2.imread(str(realdata / image))[..., ::-1])
        best.append(max((iou(detection, np.array(box, float)) for detection in detections), default=0.0))
    assert np.mean(np.array(best) > 0.5) > 0.9 and np.median(best) > 0.8
