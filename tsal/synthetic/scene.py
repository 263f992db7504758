"""The scene of a rendered clip: a head that talks and turns, a background, perhaps an occluder, and the light.

The camera is orthographic: pixels = zoom * mm + shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from tsal.synthetic.heads import Head, express, make_head, rotation
from tsal.synthetic.mesh import canonical_mesh, landmarks
from tsal.synthetic.skin import noise


@dataclass(frozen=True)
class Plane:
    """An image moved by one affine map per frame: the background, or an occluder."""

    texture: np.ndarray  # (h, w, 3) float32 in [0, 1]
    alpha: np.ndarray  # (h, w) float32
    moves: np.ndarray  # (T, 2, 3) texture pixels -> frame pixels


@dataclass(frozen=True)
class Scene:
    """Everything of a clip before it is drawn."""

    head: Head
    projected: np.ndarray  # (T, V, 3): x, y in px, depth in mm
    zoom: float  # px a mm
    background: Plane
    occluder: Plane | None
    light: dict


def drift(rng: np.random.Generator, frames: int, count: int) -> np.ndarray:
    """Smooth random motion (T, count) of about unit size: two slow waves each."""
    period, phase = rng.uniform([9, 5], [26, 10], (count, 2)), rng.uniform(0, 2 * np.pi, (count, 2))
    waves = np.sin(2 * np.pi * np.arange(frames)[:, None, None] / period + phase)
    return waves @ np.array([0.9, 0.22])


def _faces_over_time(rng: np.random.Generator, frames: int) -> list[dict]:
    """Expressions of a clip, one a frame."""
    wave, mood = drift(rng, frames, 9), rng.normal(size=4)
    talking, lively = rng.random() < 0.6, rng.uniform(0.4, 1.0)
    blink_at = rng.uniform(-3, frames + 2) if rng.random() < 0.5 else -99
    faces = []
    for t in range(frames):
        jaw = max(0.0, (7 + 7 * wave[t, 0]) * lively) if talking else max(0.0, 1.2 * mood[0])
        blink = np.clip(1.1 * np.exp(-(((t - blink_at) / 1.1) ** 2)) + 0.15 + 0.12 * wave[t, 5], 0, 1)
        faces.append(
            {
                "jaw": jaw,
                "shut": 1.0 if jaw < 1.5 else max(0.55, 1 - (jaw - 1.5) * 0.06),
                "blink": blink,
                "smile": np.clip(0.25 + 0.45 * mood[1] + 0.3 * wave[t, 1], -0.5, 1.2),
                "pucker": np.clip(0.3 * mood[2] + 0.35 * wave[t, 2], -0.2, 1),
                "brow": np.clip(0.4 * mood[3] + 0.4 * wave[t, 3], -0.6, 1.2),
                "frown": np.clip(0.5 * wave[t, 4], 0, 1),
                "squint": np.clip(0.3 * wave[t, 6], 0, 0.5),
                "gaze_x": 14 * wave[t, 7],
                "gaze_y": 7 * wave[t, 8],
            }
        )
    return faces


def _project(rng: np.random.Generator, head: Head, frames: int, side: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Vertices (T, V, 3) in px and mm, px a mm, and the camera's shift (T, 2) px: the face stays in the image."""
    wave = drift(rng, frames, 6)
    mean = np.clip(rng.normal(0, [30, 9, 7]), [-52, -18, -16], [52, 18, 16])
    poses = np.clip(mean + wave[:, :3] * rng.uniform([3, 2, 2], [13, 6, 6]), [-60, -25, -25], [60, 25, 25])
    neck = canonical_mesh().neck[:, None]
    turned = []
    for pose, face in zip(poses, _faces_over_time(rng, frames)):
        vertices = express(head, face)
        still = vertices @ rotation(pose[0] * 0.35, 0, 0).T
        turned.append((1 - neck) * (vertices @ rotation(*pose).T) + neck * still)
    turned = np.stack(turned)
    boxes = np.stack([[p.min(0), p.max(0)] for p in (landmarks(v)[:, :2] for v in turned)])
    zoom = rng.uniform(0.47, 0.63) * side / np.max(boxes[:, 1] - boxes[:, 0], axis=1).mean()
    near = np.exp(0.05 * wave[:, 5])[:, None]
    slack = (side - zoom * near * (boxes[:, 1] - boxes[:, 0])) / 2 - 0.04 * side
    shift = side * (wave[:, 3:5] * rng.uniform(0.01, 0.07, 2) + rng.normal(0, 0.05, 2))
    shift = np.clip(shift, -0.9 * slack, 0.9 * slack)
    # The head turns about its neck, but the operator follows only its slow part: half of the turn's shift stays.
    centres = zoom * boxes.mean(1)
    followed = centres + np.clip(0.5 * (centres.mean(0) - centres), -0.1 * slack, 0.1 * slack)
    offset = (side - 1) / 2 + shift - near * followed
    projected = turned * zoom * near[:, :, None]
    projected[..., :2] += offset[:, None]
    projected[..., 2] = turned[..., 2]
    return projected, zoom, shift


def _affines(scale: np.ndarray, angle: np.ndarray, middle: np.ndarray, centre) -> np.ndarray:
    """Affines (T, 2, 3) that scale (T,), turn (T,) by radians and bring the texture's ``centre`` (2,) to ``middle`` (T,
    2).
    """
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    linear = scale[:, None, None] * turn
    return np.concatenate([linear, (middle - linear @ np.asarray(centre, float))[..., None]], -1)


def _background(rng: np.random.Generator, side: int, shift: np.ndarray) -> Plane:
    """A room or garden out of focus, moved against the head by the camera."""
    size = int(2.2 * side)
    pale = rng.uniform(0.15, 0.6)  # how much colour the place has
    base, other = (value + pale * rng.normal(0, 0.18, 3) for value in rng.uniform(0.12, 0.85, 2))
    down = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    image = (base + (other - base) * down * np.ones((1, size, 1))).astype(np.float32)
    for _ in range(rng.integers(4, 16)):
        colour = rng.choice([base, other]) + rng.normal(0, 0.14) + pale * rng.normal(0, 0.22, 3)
        colour = np.clip(colour, 0, 1).tolist()
        corner, extent = rng.integers(0, size, 2), rng.integers(size // 20, size // 3, 2)
        if rng.random() < 0.6:
            cv2.rectangle(image, corner.tolist(), (corner + extent).tolist(), colour, -1)
        else:
            cv2.ellipse(image, corner.tolist(), (extent // 2).tolist(), rng.uniform(0, 180), 0, 360, colour, -1)
    image += (0.02 * noise(rng, (size, size), (24, 24)) + 0.03 * noise(rng, (size, size), (110, 110)))[..., None]
    image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.6, 3.5) * side / 128)
    frames = len(shift)
    wave = drift(rng, frames, 4)
    angle, scale = np.radians(2.0 * wave[:, 2]), np.exp(0.03 * wave[:, 3])
    middle = (side - 1) / 2 + 0.05 * side * wave[:, :2] + 0.4 * shift
    moves = _affines(scale, angle, middle, (size / 2, size / 2))
    return Plane(np.clip(image, 0, 1), np.ones((size, size), np.float32), moves)


def _occluder(rng: np.random.Generator, projected: np.ndarray, side: int) -> Plane:
    """A hand, a rod or a cup that passes before the face."""
    size, kind = 160, rng.choice(["hand", "rod", "cup"])
    alpha = np.zeros((2 * size, size), np.float32)
    colour = np.clip(rng.uniform(0.1, 0.85) + rng.normal(0, 0.2, 3), 0.03, 0.95)
    if kind == "hand":
        colour = np.array([0.85, 0.62, 0.50]) * rng.uniform(0.35, 1.1)
        cv2.ellipse(alpha, (80, 95), (24, 28), 0, 0, 360, 1.0, -1, cv2.LINE_AA)
        cv2.line(alpha, (80, 105), (92, 330), 1.0, 31, cv2.LINE_AA)
        tips, roots = (
            [(54, 42), (71, 28), (89, 27), (106, 40), (118, 84)],
            [(64, 80), (74, 75), (86, 75), (97, 80), (95, 104)],
        )
        for tip, root in zip(tips, roots):
            cv2.line(alpha, tip, root, 1.0, 13, cv2.LINE_AA)
    elif kind == "rod":
        cv2.line(alpha, (80, 34), (80, 330), 1.0, int(rng.integers(10, 30)), cv2.LINE_AA)
        cv2.circle(alpha, (80, 36), int(rng.integers(8, 24)), 1.0, -1, cv2.LINE_AA)
    else:
        cv2.fillPoly(alpha, [np.array([(50, 45), (110, 45), (102, 125), (58, 125)])], 1.0, cv2.LINE_AA)
        cv2.ellipse(alpha, (112, 80), (16, 22), 0, 0, 360, 1.0, 8, cv2.LINE_AA)
    solid = alpha > 0.5
    inwards = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
    round_ = cv2.GaussianBlur(np.sqrt(np.minimum(inwards / (7 if kind == "hand" else 16), 1)), (0, 0), 2)
    grain = 1 + 0.03 * noise(rng, alpha.shape, (120, 60)) + 0.04 * noise(rng, alpha.shape, (20, 10))
    texture = colour * ((0.5 + 0.5 * round_) * grain)[..., None]
    frames, wave = len(projected), drift(rng, len(projected), 4)
    about = landmarks(projected[frames // 2])[rng.integers(68), :2] + rng.normal(0, 0.05 * side, 2)
    centre = about + wave[:, :2] * rng.uniform(0.03, 0.10) * side
    angle = np.radians(rng.normal(0, 30) + 8 * wave[:, 2])
    scale = rng.uniform(0.6, 0.95) * side / size * np.exp(0.05 * wave[:, 3])
    return Plane(np.clip(texture, 0, 1).astype(np.float32), alpha, _affines(scale, angle, centre, (80, 50)))


def _light(rng: np.random.Generator) -> dict:
    """A lamp, the sky's light, and the camera's exposure."""
    azimuth, height = np.radians(rng.uniform(-75, 75)), np.radians(rng.uniform(-5, 60))
    warmth = rng.normal(0, 0.08)
    return {
        "towards": np.array(
            [np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)], np.float32
        ),
        "lamp": rng.uniform(0.45, 1.15) * np.array([1 + warmth, 1, 1 - warmth]),
        "sky": rng.uniform(0.22, 0.6) * np.array([1 - 0.5 * warmth, 1, 1 + 0.5 * warmth]),
        "gloss": rng.uniform(0.03, 0.14),
        "gain": np.exp(rng.normal(0.05, 0.18)),
        "gamma": 1 / 2.2,
        "blur": rng.choice([0.0, rng.uniform(0.3, 1.1)]),
        "shutter": rng.choice([0.0, rng.uniform(0.2, 0.7)]),
        "grain": rng.uniform(0.002, 0.02),
    }


def draw_scene(rng: np.random.Generator, frames: int, side: int) -> Scene:
    """A head of its own, its motion over a clip, and what is around it."""
    head = make_head(rng)
    projected, zoom, shift = _project(rng, head, frames, side)
    background = _background(rng, side, shift)
    occluder = _occluder(rng, projected, side) if rng.random() < (0.3 if frames > 1 else 0.12) else None
    return Scene(head, projected, zoom, background, occluder, _light(rng))
