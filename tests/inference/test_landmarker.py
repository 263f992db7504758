"""Three lines give landmarks: of arrays and paths, one or many, in given boxes or found ones, in threads and videos."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from toys import config, save_image, scenery
from videos import write_video

from tsal import Landmarker
from tsal.cli.commands import main
from tsal.data import find_list, read_list, read_points
from tsal.faces import YuNet
from tsal.geometry import apply_affine, crop_affine, invert_affine
from tsal.inference import weights as weights_module
from tsal.inference.crop_detector import CropDetector
from tsal.inference.drawing import read_csv
from tsal.inference.track import track_video
from tsal.inference.weights import find_weights
from tsal.model import Detector
from tsal.model_files import load_model
from tsal.utils import iou, load_checkpoint, save_checkpoint

SCALE = config().augment.box_scale
BOX = (30.0, 20.0, 90.0, 80.0)


@pytest.fixture()
def answers(monkeypatch):
    """A detector that says the same 68 places of the crop (px of it) every time."""
    places = torch.rand((68, 2), generator=torch.Generator().manual_seed(0)) * 30 + 15

    def see(self, images):
        self.seen = len(images)
        return images

    def answer(self, _):
        return places.expand(self.seen, 68, 2), torch.full((self.seen, 68), 0.5)

    monkeypatch.setattr(Detector, "forward", see)
    monkeypatch.setattr(Detector, "heatmap", answer)
    return places.double().numpy()


def picture(seed: int = 0, height: int = 120, width: int = 160) -> np.ndarray:
    return np.stack([scenery(seed + channel, height, width) for channel in range(3)], -1)


def of_crop(places: np.ndarray, box) -> np.ndarray:
    """Places in the crop around a box -> px of the image."""
    return apply_affine(invert_affine(crop_affine(box, 64, SCALE)), places)


def same(faces, others) -> bool:
    names = ("points", "scores", "box")
    pairs = list(zip(faces, others, strict=True))
    return all((getattr(a, name) == getattr(b, name)).all() for a, b in pairs for name in names)


# --- images ---


def test_points_are_the_detector_s_in_pixels_of_the_image(weights, answers):
    [face] = Landmarker(weights)(picture(), boxes=[BOX])
    assert face.points == pytest.approx(of_crop(answers, BOX), abs=1e-3) and face.box.tolist() == list(BOX)
    assert (face.points.dtype, face.points.shape) == (np.float32, (68, 2)) and face.scores.tolist() == [0.5] * 68


def test_an_array_s_channels_are_red_green_blue(weights, monkeypatch):
    batches = []
    plain = Detector.forward
    monkeypatch.setattr(Detector, "forward", lambda self, images: batches.append(images) or plain(self, images))
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 255
    Landmarker(weights)(image, boxes=BOX)
    assert batches[0][0].amax((1, 2)).tolist() == [1, 0, 0]


def test_found_faces_are_detected_again_in_the_box_of_their_landmarks(weights, answers):
    images = []

    def finder(image):
        images.append(image)
        return np.array([BOX])

    image = picture()
    [face] = Landmarker(weights, finder=finder)(image)
    box = BOX
    for _ in range(2):
        points = of_crop(answers, box)
        box = (*points.min(0), *points.max(0))
    assert face.box == pytest.approx(box, abs=0.01) and iou(face.box, BOX) < 0.9
    assert face.points == pytest.approx(of_crop(answers, box), abs=0.02)
    assert (images[0] == image).all()


def test_landmarks_far_from_the_found_box_keep_it(weights, monkeypatch):
    """All in one spot: the box of the landmarks is none."""
    spot = torch.full((68, 2), 20.0)
    monkeypatch.setattr(Detector, "heatmap", lambda *_: (spot[None], torch.ones(1, 68)))
    [face] = Landmarker(weights, finder=lambda _: [BOX])(picture())
    assert face.box.tolist() == list(BOX)
    assert face.points == pytest.approx(of_crop(spot.double().numpy(), BOX), abs=1e-3)


def test_a_list_gives_a_list_of_lists_and_batches_change_no_number(weights):
    images = [picture(seed) for seed in (0, 3, 6)]
    boxes = [[BOX, (60, 40, 110, 100)], [], BOX]
    faces_of_images = Landmarker(weights, batch=2)(images, boxes=boxes)
    assert [len(faces) for faces in faces_of_images] == [2, 0, 1]
    alone = [Landmarker(weights)(image, boxes=own) for image, own in zip(images, boxes)]
    for faces, others in zip(faces_of_images, alone, strict=True):
        for face, other in zip(faces, others, strict=True):
            assert face.points == pytest.approx(other.points, abs=0.01) and (face.box == other.box).all()
    assert Landmarker(weights)([]) == [] and Landmarker(weights)(images[0], boxes=[]) == []


def test_only_so_many_pixels_are_held_and_the_order_stays(weights, answers, monkeypatch, tmp_path):
    from tsal.inference import landmarker as module

    monkeypatch.setattr(module, "HELD", 120 * 160 * 2)
    counts, whole = [], Landmarker._in_group
    monkeypatch.setattr(Landmarker, "_in_group", lambda self, group: counts.append(len(group)) or whole(self, group))
    for seed in range(5):
        save_image(tmp_path / f"{seed}.png", picture(seed))
    boxes = [(10.0 + seed, 20, 70, 80) for seed in range(5)]
    faces_of_images = Landmarker(weights)([tmp_path / f"{seed}.png" for seed in range(5)], boxes=boxes)
    assert counts == [2, 2, 1] and [face.box[0] for [face] in faces_of_images] == [10, 11, 12, 13, 14]


def test_a_path_gives_what_its_pixels_give_and_so_does_a_grey_image(weights, tmp_path):
    landmarker, image = Landmarker(weights), picture()
    save_image(tmp_path / "image.png", image)
    expected = landmarker(image, boxes=[BOX])
    for path in (tmp_path / "image.png", str(tmp_path / "image.png")):
        assert same(landmarker(path, boxes=[BOX]), expected)
    grey = image[..., 0]
    assert same(landmarker(grey, boxes=BOX), landmarker(np.repeat(grey[..., None], 3, 2), boxes=BOX))


def test_a_box_that_is_only_partly_in_the_image_has_landmarks(weights):
    """The last column of pixels is 159, the first row is 0."""
    assert len(Landmarker(weights)(picture(), boxes=[(159, 20, 200, 60), (20, -60, 60, 0)])) == 2


def test_a_model_of_the_file_can_be_named(weights):
    teacher, student = (Landmarker(weights, name)(picture(), boxes=BOX)[0].points for name in ("teacher", "student"))
    assert (teacher == Landmarker(weights)(picture(), boxes=BOX)[0].points).all() and not (teacher == student).all()


def test_threads_share_one_instance(weights):
    """Eight calls in four threads, with the cascades at work in each."""
    landmarker = Landmarker(weights)
    images = [picture(seed) for seed in range(8)]

    def work(image):
        return landmarker(image) + landmarker([image, image], boxes=[BOX, None])[0]

    expected = [work(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert all(same(*pair) for pair in zip(pool.map(work, images), expected, strict=True))


def test_a_tensor_is_an_image_and_not_a_list_of_its_rows(weights):
    image, landmarker = picture(), Landmarker(weights)
    assert same(landmarker(torch.from_numpy(image), boxes=[BOX]), landmarker(image, boxes=[BOX]))


class Image:
    """Like a picture of Pillow: numpy takes it for an array of what it stores, which may be indices of colours."""

    def __array__(self, *_, **__) -> np.ndarray:
        return np.zeros((9, 9), np.uint8)


WRONG = {
    "floats": (np.zeros((9, 9, 3)), None, "image 0: float64 of shape (9, 9, 3); want RGB uint8"),
    "four channels": (np.zeros((9, 9, 4), np.uint8), None, "uint8 of shape (9, 9, 4)"),
    "a batch": (np.zeros((2, 9, 9, 3), np.uint8), None, "several images are given as a list"),
    "nothing": (np.zeros((0, 9, 3), np.uint8), None, "image 0: has no pixels"),
    "no file": ("none.jpg", None, "none.jpg: the image does not exist"),
    "inverted": (picture(), [[9, 9, 1, 1]], "image 0: box 0 is empty, inverted or not finite (9 9 1 1)"),
    "nan": (picture(), [list(BOX), [0, 0, np.nan, 9]], "image 0: box 1 is empty, inverted or not finite"),
    "right of it": (
        [picture(), picture()],
        [BOX, [BOX, (160, 20, 200, 60)]],
        "image 1: box 1 lies wholly outside the image (160 x 120): 160 20 200 60",
    ),
    "above it": (picture(), (20, -60, 60, -1), "image 0: box 0 lies wholly outside the image (160 x 120)"),
    "shares of the image": (picture(), (0, 0, 0.5, 0.5), "image 0: box 0 is under 3 px wide and high; coordinates are"),
    "huge": (picture(), (-1e6, -1e6, 1e6, 1e6), "image 0: box 0 is over 10 times as long as the image (160 x 120)"),
    "shape": (picture(), [[1, 2, 3]], "image 0: boxes of shape (1, 3)"),
    "text": (picture(), "left", "image 0: its boxes are no numbers"),
    "ragged": ([picture(), picture()], [None, [[1, 2, 3, 4], [5]]], "image 1: its boxes are no numbers"),
    "nothing at all": (None, None, "images of type NoneType: want RGB uint8"),
    "Pillow": (Image(), None, "images of type Image: want RGB uint8"),
    "Pillow in a list": ([Image()], None, "image 0: of type Image: want RGB uint8"),
    "Pillow, EXIF": ([Image()], None, "numpy.asarray(ImageOps.exif_transpose(image).convert('RGB'))"),
    "too few": ([picture(), picture()], [BOX], "2 images, but boxes of 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(weights, case):
    images, boxes, said = WRONG[case]
    with pytest.raises(ValueError) as error:
        Landmarker(weights)(images, boxes=boxes)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "box, said", [((160, 20, 200, 60), "lies wholly outside"), ((0.1, 0.1, 0.5, 0.5), "under 3 px")]
)
def test_a_finder_s_box_that_can_be_of_no_face_is_said_for_images_and_videos(weights, tmp_path, box, said):
    landmarker = Landmarker(weights, finder=lambda _: [box])
    with pytest.raises(ValueError, match=f"the finder: box 0 .*{said}"):
        landmarker(picture())
    video = write_video(tmp_path / "v.avi", [picture()] * 3)
    with pytest.raises(ValueError, match=f"the finder: box 0 .*{said}"):
        list(landmarker.track(video))


@pytest.mark.parametrize(
    "options, said",
    [
        ({"min_face": 7}, "min_face = 7"),
        ({"batch": 0}, "batch = 0"),
        ({"batch": 2.5}, "batch = 2.5: want a whole number"),
        ({"device": "abacus"}, "'abacus' is no device"),
        ({"model": "pupil"}, "has no model 'pupil'"),
    ],
)
def test_wrong_options_are_one_line(weights, options, said):
    with pytest.raises(ValueError, match=said) as error:
        Landmarker(weights, **options)
    assert "\n" not in str(error.value)


# --- weights ---


def test_weights_are_those_named_else_the_environment_s_else_those_that_ship(weights, tmp_path, monkeypatch):
    monkeypatch.delenv("TSAL_WEIGHTS", raising=False)
    monkeypatch.setattr(weights_module, "SHIPPED", tmp_path / "face68.pt")
    with pytest.raises(ValueError, match="no trained detector comes with this version") as error:
        Landmarker()
    assert "\n" not in str(error.value)
    (tmp_path / "face68.pt").touch()
    assert find_weights() == tmp_path / "face68.pt"
    monkeypatch.setenv("TSAL_WEIGHTS", str(weights))
    assert find_weights() == weights and find_weights(tmp_path / "face68.pt") == tmp_path / "face68.pt"
    assert Landmarker().scheme.points == 68
    monkeypatch.setenv("TSAL_WEIGHTS", str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match=r"none.pt: no such checkpoint \(TSAL_WEIGHTS\)"):
        Landmarker()


def test_weights_in_half_precision_become_float32(weights, tmp_path):
    content = load_checkpoint(weights)
    for state in content["models"].values():
        state.update({name: value.half() for name, value in state.items() if value.is_floating_point()})
    save_checkpoint(tmp_path / "half.pt", content)
    assert (tmp_path / "half.pt").stat().st_size < 0.6 * weights.stat().st_size
    detector = load_model(tmp_path / "half.pt")[0]
    assert {value.dtype for value in detector.state_dict().values()} == {torch.float32, torch.int64}
    whole, half = (Landmarker(path)(picture(), boxes=BOX)[0].points for path in (weights, tmp_path / "half.pt"))
    assert half == pytest.approx(whole, abs=0.5) and not (half == whole).all()


# --- the finder ---


@pytest.fixture()
def model_is_named(monkeypatch, tmp_path):
    """The environment names a model file of YuNet, which finds one face; the cascades find none. -> How YuNet is
    called: with the image's sides and the smallest face.
    """

    class Knows(YuNet):
        asked: list[tuple] = []

        def __init__(self, model=None):
            assert model is None  # the environment's

        def __call__(self, image, min_face=0.1):
            self.asked.append((*image.shape[:2], min_face))
            return np.array([BOX])

    monkeypatch.setattr("tsal.faces.yunet.YuNet", Knows)
    monkeypatch.setenv("TSAL_FACE_MODEL", "model.onnx")
    return Knows.asked


def test_the_environment_s_finder_is_that_of_the_landmarker_and_of_predict(weights, tmp_path, model_is_named):
    save_image(tmp_path / "image.png", picture())
    command = ["predict", tmp_path / "image.png", "--weights", weights, "--min-face", 0.2]
    assert main([*map(str, command), "--out", str(tmp_path / "found.npz")]) == 0
    [face] = Landmarker(weights, min_face=0.2)(tmp_path / "image.png")
    with np.load(tmp_path / "found.npz") as table:
        assert table["points"].tolist() == [face.points.tolist()]
    assert model_is_named == [(120, 160, 0.2)] * 2
    assert main([*map(str, command), "--out", str(tmp_path / "none.npz"), "--finder", "haar"]) == 0
    with np.load(tmp_path / "none.npz") as table:
        assert len(table["points"]) == 0
    assert Landmarker(weights, finder="haar")(picture()) == []
    assert len(Landmarker(weights, finder=lambda _: [BOX, BOX])(picture())) == 2
    assert len(model_is_named) == 2


def test_the_environment_s_finder_is_that_of_the_landmarker_and_of_track(video, weights, model_is_named):
    frames = list(Landmarker(weights, min_face=0.2).track(video))
    calls = set(model_is_named)
    facts = track_video(video, weights, video.with_name("out.mp4"), min_face=0.2, progress=False)
    assert calls == set(model_is_named) == {(120, 160, 0.2)}
    assert [len(frame.faces) for frame in frames] == [1] * 40 and len(dict(read_csv(facts["csv"]))) == 40
    with pytest.raises(ValueError, match="in.mp4: no face is found"):
        track_video(video, weights, video.with_name("haar.mp4"), find="haar", progress=False)


def test_without_a_model_file_the_cascades_find_faces_unless_yunet_is_asked_for(weights, monkeypatch):
    assert Landmarker(weights)(picture()) == []
    with pytest.raises(ValueError, match=r"finder yunet: name its model file .*YuNet\(FILE\) in Python"):
        Landmarker(weights, finder="yunet")
    with pytest.raises(ValueError, match="finder = 'dlib': want haar, yunet, or a function"):
        Landmarker(weights, finder="dlib")
    monkeypatch.setenv("TSAL_FACE_MODEL", "none.onnx")
    with pytest.raises(ValueError, match=r"none.onnx: no such model file \(TSAL_FACE_MODEL\)"):
        Landmarker(weights)


# --- video ---


@pytest.fixture()
def video(tmp_path):
    """A still scene that shifts by a pixel a frame."""
    writer = cv2.VideoWriter(str(tmp_path / "in.mp4"), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), 20, (160, 120))
    wide = scenery(0, 120, 160 + 40)
    for number in range(40):
        writer.write(cv2.cvtColor(np.ascontiguousarray(wide[:, number : number + 160]), cv2.COLOR_GRAY2BGR))
    writer.release()
    return tmp_path / "in.mp4"


def test_a_tracked_face_keeps_its_number_and_has_the_landmarks_of_the_track_command(video, weights, monkeypatch):
    from tsal.faces import follow

    monkeypatch.setattr(follow, "find_faces", lambda *_: np.array([BOX]))
    frames = list(Landmarker(weights, batch=7).track(video))
    facts = track_video(video, weights, video.with_name("out.mp4"), progress=False)
    rows = dict(read_csv(facts["csv"]))
    assert [frame.number for frame in frames] == list(range(40)) == list(rows)
    assert [frame.time_ms for frame in frames] == pytest.approx([50 * n for n in range(40)], abs=0.01)
    for number, _, [face] in frames:
        assert face.number == 0 and face.box == pytest.approx(rows[number][0]["box"], abs=0.01)
        assert face.points == pytest.approx(rows[number][0]["points"], abs=0.02)


def test_a_video_s_faces_can_come_from_a_finder_of_one_s_own(video, weights):
    shapes = []

    def finder(image):
        shapes.append(image.shape)
        return [BOX] if len(shapes) > 10 else []

    frames = list(Landmarker(weights, finder=finder).track(video))
    assert set(shapes) == {(120, 160, 3)} and 20 < len(shapes) < 40 and len(frames) == 40  # 15 a second, of 20
    there = [len(frame.faces) for frame in frames]
    assert there == sorted(there) and 20 < sum(there) < 30


def test_yunet_is_told_the_smallest_face(weights):
    class Seen(YuNet):
        def __init__(self):
            self.asked = []

        def __call__(self, image, min_face=0.1):
            self.asked.append(min_face)
            return np.array([BOX])

    finder = Seen()
    assert len(Landmarker(weights, finder=finder, min_face=0.03)(picture())) == 1
    assert finder.asked == [0.03]


def test_a_finder_of_one_s_own_that_fails_is_heard_of(video, weights):
    def finder(image):
        raise RuntimeError("out of order")

    with pytest.raises(RuntimeError, match="out of order"):
        next(Landmarker(weights, finder=finder).track(video))
    with pytest.raises(ValueError, match="the finder: box 0 is empty"):
        next(Landmarker(weights, finder=lambda _: [(9, 9, 3, 3)]).track(video))


def test_a_face_far_less_sure_than_another_is_left_out_of_a_video(video, weights, monkeypatch):
    """Two finds, one of whose crops gets low scores: it is no face, as in the track command."""
    false = (95.0, 60.0, 150.0, 115.0)
    corners = np.linspace(-32 / SCALE, 32 / SCALE, 68)[:, None] + [31.5, 31.5]  # of the box, in its crop

    def detect(self, cuts):
        begins = [invert_affine(affine)[0, 2] for _, affine in cuts]
        scores = np.array([[0.4 if x > 60 else 0.5] * 68 for x in begins], np.float32).reshape(-1, 68)
        points = [apply_affine(invert_affine(affine), corners) for _, affine in cuts]
        return np.array(points, np.float32).reshape(-1, 68, 2), scores

    monkeypatch.setattr(CropDetector, "__call__", detect)
    with pytest.warns(UserWarning, match="in.mp4: faces left out: 1, whose landmarks have scores under"):
        frames = list(Landmarker(weights, finder=lambda _: [BOX, false]).track(video))
    assert [len(frame.faces) for frame in frames] == [1] * 40
    assert all(frame.faces[0].box[0] < 60 for frame in frames)


def test_a_video_without_faces_has_frames_without_faces(video, weights):
    frames = list(Landmarker(weights, finder=lambda _: np.empty((0, 4))).track(video))
    assert [frame.faces for frame in frames] == [[]] * 40


def test_what_is_odd_in_a_video_is_warned_of(video, weights):
    boxes = iter([[BOX]])
    with pytest.warns(UserWarning, match="in.mp4: faces left out: 1, each seen in too few searches"):
        list(Landmarker(weights, finder=lambda _: next(boxes, [])).track(video))


def test_a_video_that_is_not_there_is_said_at_once(weights, tmp_path):
    with pytest.raises(ValueError, match="none.mp4: no such video"):
        Landmarker(weights).track(tmp_path / "none.mp4")


def test_an_image_is_not_tracked_and_a_video_is_no_image(video, weights, tmp_path):
    landmarker = Landmarker(weights)
    save_image(tmp_path / "image.png", picture())
    with pytest.raises(ValueError, match="image.png: is an image; call the Landmarker itself"):
        landmarker.track(tmp_path / "image.png")
    with pytest.raises(ValueError, match="in.mp4: the image cannot be read or decoded; it is a video: use track"):
        landmarker(video)


# --- real faces ---


def test_found_faces_have_nearly_the_error_of_labelled_boxes(realdata):
    """Of real faces, by the detector that ships or that TSAL_WEIGHTS names; the faces that are not found apart."""
    try:
        landmarker = Landmarker()
    except ValueError as error:
        pytest.skip(str(error))
    faces = read_list(find_list(realdata, "semi/300W.val-150.GTB"))[::4]
    paths = [realdata / face.image for face in faces]
    errors = []
    for face, of_labels, detected in zip(
        faces, landmarker(paths, boxes=[face.box for face in faces]), landmarker(paths)
    ):
        truth, _ = read_points(realdata / face.annotation, 68)
        d = np.linalg.norm(truth[36] - truth[45])
        own = [other for other in detected if iou(other.box, face.box) > 0.5]
        if own:
            errors.append([np.linalg.norm(each.points - truth, axis=-1).mean() / d for each in (of_labels[0], own[0])])
    assert len(errors) > 0.8 * len(faces)
    labelled, detected = 100 * np.mean(errors, axis=0)
    assert labelled < 5.5 and detected < labelled + 0.25


def test_flip_averages_a_face_with_its_mirror_image(answers, weights):
    landmarker = Landmarker(weights, flip=True)
    face = landmarker(picture(), BOX)[0]
    mirrored = answers[list(landmarker.scheme.flip)] * [-1, 1] + [63, 0]  # a crop of 64 px
    np.testing.assert_allclose(face.points, of_crop((answers + mirrored) / 2, BOX), atol=1e-3)
