"""The detector's shapes, sources and weights."""

from __future__ import annotations

import functools

import pytest
import torch
from toys import PAIRED, perfect_detection

from tsal.config import ModelConfig
from tsal.model import IMAGE_MEAN, IMAGE_STD, Detector, Vgg16Backbone, load_vgg16
from tsal.schemes import generic_scheme
from tsal.utils.errors import ConfigError, InputError

# torchvision's VGG-16: index of each convolution in ``features``, its inputs and outputs
VGG16 = [
    (0, 3, 64),
    (2, 64, 64),
    (5, 64, 128),
    (7, 128, 128),
    (10, 128, 256),
    (12, 256, 256),
    (14, 256, 256),
    (17, 256, 512),
    (19, 512, 512),
    (21, 512, 512),
]


def light(landmarks: int = 4, **settings) -> Detector:
    torch.manual_seed(0)
    return Detector(landmarks, ModelConfig(**({"input": 64} | settings))).eval()


@pytest.mark.parametrize("landmarks", [1, 5, 29, 68])
def test_a_light_detector_takes_any_number_of_landmarks(landmarks):
    detector = light(landmarks, stages=3)
    with torch.no_grad():
        detection = detector(torch.rand(2, 3, 64, 64))
        (points, score), (candidates, centre_score) = detector.heatmap(detection), detector.centre(detection)
    assert [tuple(stage.shape) for stage in detection.stages] == [(2, landmarks + 1, 8, 8)] * 3
    assert detection.centre.shape == (2, 1, 8, 8) and detection.offsets.shape == (2, 2 * landmarks, 8, 8)
    assert points.shape == (2, landmarks, 2) and score.shape == (2, landmarks)
    assert candidates.shape == (2, 5, landmarks, 2) and centre_score.shape == (2, 5)


def test_a_vgg16_detector_has_the_same_outputs():
    detector = Detector(4, ModelConfig(size="vgg16", input=32, stages=2, heatmap="gaussian", decode_radius=3)).eval()
    with torch.no_grad():
        detection = detector(torch.rand(1, 3, 32, 32))
    assert [tuple(stage.shape) for stage in detection.stages] == [(1, 5, 4, 4)] * 2
    assert detection.centre.shape == (1, 1, 4, 4) and detection.offsets.shape == (1, 8, 4, 4)


@pytest.mark.parametrize("deviations", [0.0, 1.0])
def test_the_backbone_sees_colours_by_their_deviations_from_the_mean(deviations):
    detector, inputs = light(width=0.05), []
    detector.backbone.register_forward_pre_hook(lambda net, arguments: inputs.append(arguments[0]))
    colour = torch.tensor(IMAGE_MEAN) + deviations * torch.tensor(IMAGE_STD)
    with torch.no_grad():
        detector(colour.view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert torch.allclose(inputs[0], torch.full((1, 3, 64, 64), deviations), atol=1e-6)


def test_an_input_that_the_network_cannot_halve_is_an_error():
    with pytest.raises(ConfigError, match="model.input: 100 is not a multiple of 32"):
        Detector(4, ModelConfig(input=100))


@pytest.mark.parametrize("kind, radius", [("distribution", 0), ("gaussian", 3)])
def test_both_sources_of_perfect_outputs_are_the_points(kind, radius):
    detector = light(input=96, heatmap=kind, decode_radius=radius)
    points = torch.tensor(
        [
            [[30.2, 25.7], [61.9, 28.3], [45.5, 48.8], [44.1, 66.6]],
            [[20.0, 40.5], [70.0, 31.0], [50.5, 50.0], [40.0, 60.0]],
        ]
    )
    detection = perfect_detection(detector, points, PAIRED)
    assert (detector.heatmap(detection)[0] - points).abs().max() < 0.1
    assert torch.allclose(detector.centre(detection)[0][:, 0], points, atol=1e-4)
    assert torch.allclose(detector.centre(detection)[1][:, 0], torch.ones(2))


def test_rows_and_detached_copies_of_a_detection():
    detector = light()
    detection = detector(torch.rand(3, 3, 64, 64))
    some = detection.rows(torch.tensor([2, 0]))
    assert torch.equal(some.centre[0], detection.centre[2]) and torch.equal(some.stages[1][1], detection.stages[1][0])
    assert torch.equal(some.offsets, detection.offsets[[2, 0]])
    whole = detection.detach()
    assert detection.centre.requires_grad and not any(
        t.requires_grad for t in (*whole.stages, whole.centre, whole.offsets)
    )


def test_an_image_s_detection_does_not_depend_on_its_batch():
    detector = light()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        together, alone = detector(images), detector(images[1:2])
    assert torch.allclose(together.stages[-1][1:2], alone.stages[-1], atol=1e-5)


def test_an_empty_batch_gives_an_empty_detection():
    detector = light()
    with torch.no_grad():
        detection = detector(torch.rand(0, 3, 64, 64))
        assert detector.heatmap(detection)[0].shape == (0, 4, 2) and detector.centre(detection)[0].shape == (0, 5, 4, 2)


def test_a_new_detector_expects_a_centre_in_about_a_tenth_of_the_cells():
    assert light().centre_head[-1].bias.sigmoid().item() == pytest.approx(0.1, abs=0.002)


@functools.lru_cache
def torchvision_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for index, inputs, outputs in VGG16:
        weights[f"features.{index}.weight"] = torch.rand(outputs, inputs, 3, 3, generator=generator)
        weights[f"features.{index}.bias"] = torch.rand(outputs, generator=generator)
    return weights


REST = {
    f"{name}.{kind}": torch.zeros(1)
    for name in ("features.24", "features.26", "features.28", "classifier.0", "classifier.3", "classifier.6")
    for kind in ("weight", "bias")
}


@functools.lru_cache
def backbone() -> Vgg16Backbone:
    return Vgg16Backbone()


@pytest.mark.parametrize("rest", [REST, {}], ids=["whole network", "what is needed"])
def test_torchvision_s_vgg16_weights_load_by_name(tmp_path, rest):
    torch.save(torchvision_weights() | rest, tmp_path / "vgg16.pth")
    reduce = {k: v.clone() for k, v in backbone().reduce.state_dict().items()}
    load_vgg16(backbone(), tmp_path / "vgg16.pth")
    assert all(torch.equal(backbone().state_dict()[name], value) for name, value in torchvision_weights().items())
    assert all(torch.equal(backbone().reduce.state_dict()[name], value) for name, value in reduce.items())


def without(name: str) -> dict:
    return {key: value for key, value in torchvision_weights().items() if key != name}


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda: without("features.21.bias"), r"missing \['features.21.bias'\]"),
        # VGG-16 with BN
        (
            lambda: torchvision_weights() | {"features.1.weight": torch.zeros(1)},
            r"unknown \['features.1.weight'\]",
        ),
        (lambda: {f"module.{k}": v for k, v in torchvision_weights().items()}, "not torchvision's VGG-16"),
        (
            lambda: torchvision_weights() | {"features.0.weight": torch.zeros(64, 1, 3, 3)},
            r"features.0.weight has shape \(64, 1, 3, 3\)",
        ),
        (lambda: torch.zeros(3), "not "),
        (lambda: [1, 2], "not "),
    ],
    ids=["missing", "unknown", "other names", "shape", "a tensor", "a list"],
)
def test_other_weights_are_an_error_that_names_the_file(tmp_path, change, said):
    torch.save(change(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=said) as caught:
        load_vgg16(backbone(), tmp_path / "other.pth")
    assert "other.pth" in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_damaged_file_of_weights_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(InputError, match="bad.pth: not a readable file of VGG-16 weights"):
        load_vgg16(backbone(), tmp_path / "bad.pth")


def test_a_missing_file_of_weights_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match="none.pth: no such file of VGG-16 weights"):
        load_vgg16(backbone(), tmp_path / "none.pth")


def test_decoding_knows_nothing_of_the_scheme():
    detector = light(3, input=96)
    points = torch.tensor([[[30.0, 30.0], [50.0, 30.0], [40.0, 60.0]]])
    detection = perfect_detection(detector, points, generic_scheme(3))  # the centroid as centre
    assert torch.allclose(detector.centre(detection)[0][:, 0], points, atol=1e-4)
