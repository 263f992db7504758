"""Rendered clips of talking heads, embedded: real video's troubles, and the truth that real video lacks.

Every pixel of a frame is a known surface point: of a head's mesh (a triangle and weights), of the background or of an occluder
(both planes moved by affines). The flow is where that same point lies in the neighbouring frame, so it is exact, and a point
is occluded where the neighbour's z-buffer holds something nearer. The camera is orthographic: pixels = zoom * mm + shift.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from tsal.config import RenderConfig
from tsal.data.heads import HOLE_DEPTH, Head, canonical_mesh, express, in_hole, landmarks, make_head, noise, rotation

VERSION = 1  # of the renderer: raise it when its pictures change
SPLITS = {"labelled": 0, "unlabelled": 1, "val": 2}
NEARER = 3.0       # mm before a surface point from which on something hides it
BEHIND, BEFORE = -1e4, 1e4  # depth of background and occluder, mm


@dataclass(frozen=True)
class RenderedClip:
    """A clip of T frames of S x S pixels, with its truth. ``forward`` is for pixels of frame t, towards frame t + 1."""

    images: np.ndarray             # (T, S, S, 3) uint8 RGB
    points: np.ndarray             # (T, 68, 2) float32 px
    visible: np.ndarray            # (T, 68) bool: in the frame, not behind the head itself nor an occluder
    flow_forward: np.ndarray       # (T-1, 2, S, S) float32 px: pixel of frame t -> the same surface point in frame t + 1
    flow_backward: np.ndarray      # (T-1, 2, S, S) float32 px: pixel of frame t + 1 -> frame t
    occluded_forward: np.ndarray   # (T-1, S, S) bool: the pixel's surface point is hidden or outside in frame t + 1
    occluded_backward: np.ndarray  # (T-1, S, S) bool, for pixels of frame t + 1


# --- the scene ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plane:
    """A picture moved by one affine a frame: the background, or an occluder."""

    texture: np.ndarray  # (h, w, 3) float32 in [0, 1]
    alpha: np.ndarray    # (h, w) float32
    moves: np.ndarray    # (T, 2, 3) texture pixels -> frame pixels


@dataclass(frozen=True)
class Scene:
    """Everything of a clip before it is drawn."""

    head: Head
    projected: np.ndarray       # (T, V, 3): x, y in px, depth in mm
    zoom: float                 # px a mm
    background: Plane
    occluder: Plane | None
    light: dict


def _drift(rng: np.random.Generator, frames: int, count: int) -> np.ndarray:
    """Smooth random motion (T, count) of about unit size: two slow waves each."""
    period, phase = rng.uniform([9, 5], [26, 10], (count, 2)), rng.uniform(0, 2 * np.pi, (count, 2))
    waves = np.sin(2 * np.pi * np.arange(frames)[:, None, None] / period + phase)
    return waves @ np.array([0.9, 0.22])


def _faces_over_time(rng: np.random.Generator, frames: int) -> list[dict]:
    """Expressions of a clip, one a frame."""
    wave, mood = _drift(rng, frames, 9), rng.normal(size=4)
    talking, lively = rng.random() < 0.6, rng.uniform(0.4, 1.0)
    blink_at = rng.uniform(-3, frames + 2) if rng.random() < 0.5 else -99
    faces = []
    for t in range(frames):
        jaw = max(0.0, (7 + 7 * wave[t, 0]) * lively) if talking else max(0.0, 1.2 * mood[0])
        blink = np.clip(1.1 * np.exp(-(((t - blink_at) / 1.1) ** 2)) + 0.15 + 0.12 * wave[t, 5], 0, 1)
        faces.append({
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
        })
    return faces


def _project(rng: np.random.Generator, head: Head, frames: int, side: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Vertices (T, V, 3) in px and mm, px a mm, and the camera's shift (T, 2) px: the face stays in the picture."""
    wave = _drift(rng, frames, 6)
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
    """Affines (T, 2, 3) that scale (T,), turn (T,) by radians and bring the texture's ``centre`` (2,) to ``middle`` (T, 2)."""
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
    wave = _drift(rng, frames, 4)
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
        tips, roots = [(54, 42), (71, 28), (89, 27), (106, 40), (118, 84)], [(64, 80), (74, 75), (86, 75), (97, 80), (95, 104)]
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
    frames, wave = len(projected), _drift(rng, len(projected), 4)
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
        "towards": np.array([np.sin(azimuth) * np.cos(height), -np.sin(height), np.cos(azimuth) * np.cos(height)], np.float32),
        "lamp": rng.uniform(0.45, 1.15) * np.array([1 + warmth, 1, 1 - warmth]),
        "sky": rng.uniform(0.22, 0.6) * np.array([1 - 0.5 * warmth, 1, 1 + 0.5 * warmth]),
        "gloss": rng.uniform(0.03, 0.14),
        "gain": np.exp(rng.normal(0.05, 0.18)),
        "gamma": 1 / 2.2,
        "blur": rng.choice([0.0, rng.uniform(0.3, 1.1)]),
        "shutter": rng.choice([0.0, rng.uniform(0.2, 0.7)]),
        "grain": rng.uniform(0.002, 0.02),
    }


def _scene(rng: np.random.Generator, frames: int, side: int) -> Scene:
    head = make_head(rng)
    projected, zoom, shift = _project(rng, head, frames, side)
    background = _background(rng, side, shift)
    occluder = _occluder(rng, projected, side) if rng.random() < (0.3 if frames > 1 else 0.12) else None
    return Scene(head, projected, zoom, background, occluder, _light(rng))


# --- drawing ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Buffer:
    """What each pixel of an S x S raster shows."""

    face: np.ndarray     # (S, S) triangle, -1 where there is none
    weights: np.ndarray  # (S, S, 3) of the triangle's corners
    depth: np.ndarray    # (S, S) mm
    occluded: np.ndarray # (S, S) share of the occluder


def _rasterise(scene: Scene, t: int, side: int, finer: int) -> Buffer:
    """Triangles into a z-buffer ``finer`` times as fine as the frame, exact at the centres of its pixels."""
    mesh, vertices, size = canonical_mesh(), scene.projected[t], side * finer
    plane = vertices[:, :2] * finer + (finer - 1) / 2
    (ax, ay), (bx, by), (cx, cy) = (plane[mesh.faces[:, i]].T for i in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    lower, upper = (lambda p, q, r: np.minimum(np.minimum(p, q), r)), (lambda p, q, r: np.maximum(np.maximum(p, q), r))
    left, top = (np.clip(np.ceil(low), 0, size).astype(int) for low in (lower(ax, bx, cx), lower(ay, by, cy)))
    right, bottom = (np.clip(np.floor(high), -1, size - 1).astype(int) for high in (upper(ax, bx, cx), upper(ay, by, cy)))
    wide, high = np.maximum(right - left + 1, 0), np.maximum(bottom - top + 1, 0)
    kept = np.flatnonzero(scene.head.faces & ((area > 1e-9) | mesh.two_sided & (area < -1e-9)) & (wide * high > 0))

    # The first two weights are linear in x and y; every pixel of every triangle's bounding box is tried at once.
    slopes = [(by - cy) / area, (cx - bx) / area, (cy - ay) / area, (ax - cx) / area]
    slopes = [slope[kept] for slope in slopes]
    counts = (wide * high)[kept]
    each = lambda values: np.repeat(values, counts)  # noqa: E731
    row, column = np.divmod(np.arange(counts.sum()) - each(np.cumsum(counts) - counts), each(wide[kept]))
    x, y = column + each(left[kept]), row + each(top[kept])
    from_x, from_y = x - each(cx[kept]), y - each(cy[kept])
    first = each(slopes[0]) * from_x + each(slopes[1]) * from_y
    second = each(slopes[2]) * from_x + each(slopes[3]) * from_y
    third = 1 - first - second
    hit = np.flatnonzero((first > -1e-7) & (second > -1e-7) & (third > -1e-7))
    triangle, pixel = each(kept)[hit], (y * size + x)[hit]
    weights = np.stack([first[hit], second[hit], third[hit]], -1)
    depth = _depth(triangle, weights, vertices)
    nearest = np.full(size * size, BEHIND)
    np.maximum.at(nearest, pixel, depth)
    front = np.flatnonzero(depth == nearest[pixel])
    face, corners = np.full(size * size, -1), np.zeros((size * size, 3))
    face[pixel[front]], corners[pixel[front]] = triangle[front], weights[front]
    share = np.zeros((size, size), np.float32)
    if scene.occluder is not None:
        share = _moved(scene.occluder.alpha, scene.occluder.moves[t], size, finer, border=cv2.BORDER_CONSTANT)
    nearest = np.where(share > 0.5, BEFORE, nearest.reshape(size, size))
    return Buffer(face.reshape(size, size), corners.reshape(size, size, 3), nearest, share)


def _mix(values: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values (V, C) of the vertices, at surface points with corners (n, 3) and weights (n, 3) -> (n, C)."""
    return sum(values[corners[:, i]] * weights[:, i, None] for i in range(3))


def _depth(triangle: np.ndarray, weights: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Depth (n,) mm of surface points; the floor of a hole lies behind the surface that spans it."""
    mesh = canonical_mesh()
    corners = mesh.faces[triangle]
    depth = _mix(vertices[:, 2:], corners, weights)[:, 0]
    maybe = np.flatnonzero(mesh.holed[triangle])
    places = _mix(mesh.vertices[:, :2], corners[maybe], weights[maybe])
    depth[maybe] -= HOLE_DEPTH * in_hole(places[:, 0], places[:, 1])
    return depth


def _moved(image: np.ndarray, affine: np.ndarray, size: int, finer: int, border=cv2.BORDER_REFLECT_101) -> np.ndarray:
    """A plane's picture on the finer raster (size, size), by its affine into the frame's pixels."""
    affine = affine * finer + np.array([[0, 0, (finer - 1) / 2]] * 2)
    return cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)


def _normals(vertices: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) that point out of the surface, in camera space."""
    mesh = canonical_mesh()
    (rows, columns), normals = mesh.shape, np.zeros_like(vertices)
    normals[:, 2] = 1
    grids = [(mesh.slices["head"], rows, columns), (mesh.slices["ball_left"], 15, 15), (mesh.slices["ball_right"], 15, 15)]
    for part, height, width in grids:
        grid = vertices[part].reshape(height, width, 3)
        along, down = np.gradient(grid, axis=1), np.gradient(grid, axis=0)
        normal = np.cross(along, down).reshape(-1, 3)
        normals[part] = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)
    return normals


def _shade(scene: Scene, t: int, side: int, buffer: Buffer, finer: int) -> np.ndarray:
    """The frame (S, S, 3) float32 in [0, 1], antialiased from a finer raster, before blur and noise."""
    mesh, size, light = canonical_mesh(), side * finer, scene.light
    vertices = scene.projected[t] * [1 / scene.zoom, 1 / scene.zoom, 1]
    shown = buffer.face >= 0
    corners, weights = mesh.faces[buffer.face[shown]], buffer.weights[shown]
    mixed = _mix(np.concatenate([mesh.texels, _normals(vertices)], 1).astype(np.float32), corners, weights.astype(np.float32))
    texel = np.zeros((size, size, 2), np.float32)
    texel[shown] = mixed[:, :2]
    albedo = cv2.remap(scene.head.albedo, texel, None, cv2.INTER_LINEAR)[shown]
    gloss = cv2.remap(scene.head.gloss, texel, None, cv2.INTER_LINEAR)[shown][:, None]
    normal = mixed[:, 2:]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    towards = normal @ light["towards"]
    half = light["towards"] + [0, 0, 1]
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[:, None] ** np.where(gloss > 2.5, 60, 18)
    lit = light["sky"] * (0.72 - 0.28 * normal[:, 1:2]) + light["lamp"] * np.clip((towards + 0.15) / 1.15, 0, None)[:, None]
    colour = albedo * lit + light["gloss"] * gloss * shine * light["lamp"]
    plane = scene.background
    image = _moved(plane.texture, plane.moves[t], size, finer)
    image[shown] = np.clip(light["gain"] * colour, 0, 1) ** light["gamma"]
    if scene.occluder is not None:
        front = _moved(scene.occluder.texture, scene.occluder.moves[t], size, finer)
        image += (front - image) * buffer.occluded[..., None]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def _expose(rng: np.random.Generator, image: np.ndarray, light: dict, motion: np.ndarray) -> np.ndarray:
    """What the camera makes of a frame: motion blur along ``motion`` (2,) px, defocus, noise -> uint8."""
    scale = image.shape[0] / 128
    reach = light["shutter"] * motion
    if np.hypot(*reach) > 0.5:
        shifts = [np.array([[1, 0, s * reach[0]], [0, 1, s * reach[1]]]) for s in np.linspace(-0.5, 0.5, 7)]
        image = np.mean([_moved(image, shift, len(image), 1, border=cv2.BORDER_REPLICATE) for shift in shifts], axis=0)
    if light["blur"] > 0:
        image = cv2.GaussianBlur(image, (0, 0), light["blur"] * scale)
    image = image + light["grain"] * rng.normal(size=image.shape) * (0.4 + np.sqrt(np.clip(image, 0, 1)))
    return np.clip(np.round(image * 255), 0, 255).astype(np.uint8)


# --- truth --------------------------------------------------------------------------------------------------


def _flow(scene: Scene, here: int, there: int, buffer: Buffer, fine_there: Buffer) -> tuple[np.ndarray, np.ndarray]:
    """Flow (2, S, S) px from the pixels of one frame to another, and where (S, S) it ends hidden or outside."""
    mesh, side = canonical_mesh(), buffer.face.shape[0]
    y, x = np.mgrid[:side, :side].astype(float)
    pixels = np.stack([x, y], -1)

    def carried(plane: Plane) -> np.ndarray:
        to_texture = cv2.invertAffineTransform(plane.moves[here])
        texture = pixels @ to_texture[:, :2].T + to_texture[:, 2]
        return texture @ plane.moves[there][:, :2].T + plane.moves[there][:, 2]

    target, depth = carried(scene.background), np.full((side, side), BEHIND)
    shown = buffer.face >= 0
    triangle, weights = buffer.face[shown], buffer.weights[shown]
    target[shown] = _mix(scene.projected[there][:, :2], mesh.faces[triangle], weights)
    depth[shown] = _depth(triangle, weights, scene.projected[there])
    if scene.occluder is not None:
        before = buffer.occluded > 0.5
        target[before], depth[before] = carried(scene.occluder)[before], BEFORE
    hidden = _hidden(target.reshape(-1, 2), depth.ravel(), fine_there, side).reshape(side, side)
    return (target - pixels).transpose(2, 0, 1).astype(np.float32), hidden


def _hidden(points: np.ndarray, depth: np.ndarray, fine: Buffer, side: int) -> np.ndarray:
    """Whether points (n, 2) px at a depth (n,) mm are outside the frame or behind all of the four fine pixels around them."""
    finer = fine.depth.shape[0] // side
    places = points * finer + (finer - 1) / 2
    low = np.floor(places).astype(int)
    nearest = np.full(len(points), np.inf)
    for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = np.clip(low + step, 0, fine.depth.shape[0] - 1).T
        nearest = np.minimum(nearest, fine.depth[row, column])
    outside = ((points < -0.5) | (points > side - 0.5)).any(1)
    return outside | (nearest > depth + NEARER)


def render_clip(seed, frames: int, side: int) -> RenderedClip:
    """Render one clip of its own identity; ``seed`` is anything ``np.random.default_rng`` takes. Same seed, same bytes."""
    rng = np.random.default_rng(seed)
    scene = _scene(rng, frames, side)
    finer = 2
    fine = [_rasterise(scene, t, side, finer) for t in range(frames)]
    points = np.stack([landmarks(v) for v in scene.projected])
    motion = np.gradient(points[..., :2].mean(1), axis=0) if frames > 1 else rng.normal(0, 2, (1, 2))
    images = [_expose(rng, _shade(scene, t, side, fine[t], finer), scene.light, motion[t]) for t in range(frames)]
    visible = [~_hidden(points[t, :, :2], points[t, :, 2], fine[t], side) for t in range(frames)]
    exact = [_rasterise(scene, t, side, 1) for t in range(frames if frames > 1 else 0)]
    forward = [_flow(scene, t, t + 1, exact[t], fine[t + 1]) for t in range(frames - 1)]
    backward = [_flow(scene, t + 1, t, exact[t + 1], fine[t]) for t in range(frames - 1)]
    empty = [np.zeros((0, 2, side, side), np.float32), np.zeros((0, side, side), bool)]
    flows = [np.stack(part) for way in (forward, backward) for part in zip(*way)] or empty * 2
    flat = points[..., :2].astype(np.float32)
    return RenderedClip(np.stack(images), flat, np.stack(visible), flows[0], flows[2], flows[1], flows[3])


# --- files --------------------------------------------------------------------------------------------------


def _detector_box(rng: np.random.Generator, points: np.ndarray, jitter: float) -> np.ndarray:
    """Tight boxes (T, 4) px of points (T, 68, 2), moved and resized by about ``jitter`` of their size, smoothly in time."""
    box = np.concatenate([points.min(1), points.max(1)], -1)
    size = np.tile(box[:, 2:] - box[:, :2], 2)
    return box + jitter * size * (0.6 * rng.normal(size=4) + 0.6 * _drift(rng, len(points), 4))


def _pts(points: np.ndarray) -> str:
    body = "\n".join(f"{x:.3f} {y:.3f}" for x, y in points.astype(float) + 1)
    return f"version: 1\nn_points: {len(points)}\n{{\n{body}\n}}\n"


def _write_clip(job: tuple[Path, RenderConfig, str, int]) -> tuple[str, int, list[str]]:
    """Render and write one clip or photograph below the root; returns the split, the index and the rows of its list.

    A row's annotation is always given here: the list of unlabelled clips drops it.
    """
    root, settings, split, index = job
    cv2.setNumThreads(1)
    key = [settings.seed, SPLITS[split], index]
    single = split == "labelled"
    clip = render_clip(np.random.SeedSequence(key), 1 if single else settings.frames, settings.side)
    boxes = _detector_box(np.random.default_rng([*key, 1]), clip.points, 0.0 if single else 0.025)
    folder = split if single else f"{split}/{_name(split, index)}"
    truth = "truth" if split == "unlabelled" else "images"
    (root / "images" / folder).mkdir(parents=True, exist_ok=True)
    (root / truth / folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for t, (image, points, box) in enumerate(zip(clip.images, clip.points, boxes)):
        stem = _name(split, index) if single else str(t)
        picture, annotation = f"images/{folder}/{stem}.jpg", f"{truth}/{folder}/{stem}.pts"
        written = cv2.imwrite(str(root / picture), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
        if not written:
            raise OSError(f"{root / picture}: could not be written")
        (root / annotation).write_text(_pts(points))
        rows.append(" ".join([picture, annotation, *(f"{v:.2f}" for v in box)]))
    if not single:
        path = root / "oracle" / f"{folder}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: value for name, value in vars(clip).items() if name != "images"}
        for name in ("flow_forward", "flow_backward"):
            arrays[name] = np.round(arrays[name] * 256) / np.float32(256)  # packs better, and errs by under 0.002 px
        np.savez_compressed(path, **arrays)
    return split, index, rows


def _name(split: str, index: int) -> str:
    return f"face-{index:04d}" if split == "labelled" else f"clip-{index:04d}"


def load_oracle(path) -> dict[str, np.ndarray]:
    """The truth of one clip: the arrays of :class:`RenderedClip` but its images."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def render_dataset(root: Path, settings: RenderConfig, *, workers: int | None = None, progress: bool = True) -> dict:
    """Render all clips into ``root``, with lists, annotations and oracles, and return the manifest.

    Nothing is done where ``root`` already holds the same; a former rendering with other settings is replaced as a whole.

    Raises:
        FileExistsError: ``root`` holds something else than a rendering.
    """
    root = Path(root)
    counts = {"labelled": settings.labelled, "unlabelled": settings.clips, "val": settings.validation}
    wanted = {"renderer": VERSION, "settings": asdict(settings)}
    former = root / "manifest.json"
    if former.is_file():
        manifest = json.loads(former.read_text())
        if {name: manifest.get(name) for name in wanted} == wanted:
            return manifest
    elif root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root}: holds files but no rendering's manifest.json; name an empty or a new folder")

    temporary = root.parent / f".{root.name}.{os.getpid()}.tmp"
    temporary.mkdir(parents=True)
    try:
        jobs = [(temporary, settings, split, index) for split in SPLITS for index in range(counts[split])]
        rows = {(split, index): lines for split, index, lines in _all_written(jobs, workers, progress)}
        _write_lists(temporary / "lists", counts, rows)
        clips = [
            {"split": split, "name": _name(split, index), "seed": [settings.seed, SPLITS[split], index], "frames": len(lines)}
            for (split, index), lines in rows.items()
        ]
        manifest = {**wanted, "counts": counts, "clips": clips}
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        if root.exists():
            shutil.rmtree(root)
        os.replace(temporary, root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def _all_written(jobs: list, workers: int | None, progress: bool):
    """Results of all jobs, in the jobs' order, from a pool of processes (or this one, for one worker)."""
    workers = min(workers or os.cpu_count() or 1, len(jobs))
    bar = tqdm(total=len(jobs), desc="rendering", unit="clip", file=sys.stderr, disable=not progress)
    with bar:
        if workers <= 1:
            for job in jobs:
                yield _write_clip(job)
                bar.update()
            return
        # Spawned, not forked: a forked child inherits the locks of the parent's torch and cv2 threads.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for result in pool.map(_write_clip, jobs):
                yield result
                bar.update()


def _write_lists(folder: Path, counts: dict, rows: dict) -> None:
    folder.mkdir()
    lines = {split: [line for i in range(count) for line in rows[split, i]] for split, count in counts.items()}
    bare = [" ".join([picture, "None", *box]) for picture, _, *box in map(str.split, lines["unlabelled"])]
    lists = {"labelled": lines["labelled"], "unlabelled": bare, "unlabelled-truth": lines["unlabelled"], "val": lines["val"]}
    for name, content in lists.items():
        (folder / f"{name}.txt").write_text("".join(line + "\n" for line in content))
