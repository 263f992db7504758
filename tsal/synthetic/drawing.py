"""A scene drawn: its pixels, and the truth of each of them.

Every pixel of a frame is a known surface point: of a head's mesh (a triangle and weights), of the background or of an
occluder (both planes moved by affines). Flow and tracks are where that same point lies in other frames, so they are
exact, and a point is occluded where the other frame's z-buffer holds something nearer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from tsal.geometry import apply_affine
from tsal.synthetic.mesh import HOLE_DEPTH, canonical_mesh, in_hole
from tsal.synthetic.scene import Plane, Scene

NEARER = 3.0  # mm before a surface point from which on something hides it
BEHIND, BEFORE = -1e4, 1e4  # depth of background and occluder, mm
HEAD_TRACKS, GROUND_TRACKS, FRONT_TRACKS = 460, 110, 40  # points of a clip; without an occluder, its are the ground's

# --- drawing ---


@dataclass(frozen=True)
class Buffer:
    """What each pixel of an S x S raster shows."""

    face: np.ndarray  # (S, S) triangle, -1 where there is none
    weights: np.ndarray  # (S, S, 3) of the triangle's corners
    depth: np.ndarray  # (S, S) mm
    occluded: np.ndarray  # (S, S) share of the occluder


def rasterise(scene: Scene, t: int, side: int, finer: int) -> Buffer:
    """Triangles into a z-buffer ``finer`` times as fine as the frame, exact at the centres of its pixels."""
    mesh, vertices, size = canonical_mesh(), scene.projected[t], side * finer
    plane = vertices[:, :2] * finer + (finer - 1) / 2
    (ax, ay), (bx, by), (cx, cy) = (plane[mesh.faces[:, i]].T for i in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    lower, upper = (lambda p, q, r: np.minimum(np.minimum(p, q), r)), (lambda p, q, r: np.maximum(np.maximum(p, q), r))
    left, top = (np.clip(np.ceil(low), 0, size).astype(int) for low in (lower(ax, bx, cx), lower(ay, by, cy)))
    right, bottom = (
        np.clip(np.floor(high), -1, size - 1).astype(int) for high in (upper(ax, bx, cx), upper(ay, by, cy))
    )
    wide, high = np.maximum(right - left + 1, 0), np.maximum(bottom - top + 1, 0)
    triangles = np.flatnonzero(scene.head.faces & ((area > 1e-9) | mesh.two_sided & (area < -1e-9)) & (wide * high > 0))

    # The first two weights are linear in x and y; every pixel of every triangle's bounding box is tried at once.
    slopes = [(by - cy) / area, (cx - bx) / area, (cy - ay) / area, (ax - cx) / area]
    slopes = [slope[triangles] for slope in slopes]
    counts = (wide * high)[triangles]
    each = lambda values: np.repeat(values, counts)  # noqa: E731
    row, column = np.divmod(np.arange(counts.sum()) - each(np.cumsum(counts) - counts), each(wide[triangles]))
    x, y = column + each(left[triangles]), row + each(top[triangles])
    from_x, from_y = x - each(cx[triangles]), y - each(cy[triangles])
    first = each(slopes[0]) * from_x + each(slopes[1]) * from_y
    second = each(slopes[2]) * from_x + each(slopes[3]) * from_y
    third = 1 - first - second
    hit = np.flatnonzero((first > -1e-7) & (second > -1e-7) & (third > -1e-7))
    triangle, pixel = each(triangles)[hit], (y * size + x)[hit]
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
    """A plane's image on the finer raster (size, size), by its affine into the frame's pixels."""
    affine = affine * finer + np.array([[0, 0, (finer - 1) / 2]] * 2)
    return cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=border)


def _normals(vertices: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) that point out of the surface, in camera space."""
    mesh = canonical_mesh()
    (rows, columns), normals = mesh.shape, np.zeros_like(vertices)
    normals[:, 2] = 1
    grids = [
        (mesh.slices["head"], rows, columns),
        (mesh.slices["ball_left"], 15, 15),
        (mesh.slices["ball_right"], 15, 15),
    ]
    for part, height, width in grids:
        grid = vertices[part].reshape(height, width, 3)
        along, down = np.gradient(grid, axis=1), np.gradient(grid, axis=0)
        normal = np.cross(along, down).reshape(-1, 3)
        normals[part] = normal / (np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9)
    return normals


def shade(scene: Scene, t: int, side: int, buffer: Buffer, finer: int) -> np.ndarray:
    """The frame (S, S, 3) float32 in [0, 1], antialiased from a finer raster, before blur and noise."""
    mesh, size, light = canonical_mesh(), side * finer, scene.light
    vertices = scene.projected[t] * [1 / scene.zoom, 1 / scene.zoom, 1]
    shown = buffer.face >= 0
    corners, weights = mesh.faces[buffer.face[shown]], buffer.weights[shown]
    mixed = _mix(
        np.concatenate([mesh.texels, _normals(vertices)], 1).astype(np.float32), corners, weights.astype(np.float32)
    )
    texel = np.zeros((size, size, 2), np.float32)
    texel[shown] = mixed[:, :2]
    albedo = cv2.remap(scene.head.albedo, texel, None, cv2.INTER_LINEAR)[shown]
    gloss = cv2.remap(scene.head.gloss, texel, None, cv2.INTER_LINEAR)[shown][:, None]
    normal = mixed[:, 2:]
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    towards = normal @ light["towards"]
    half = light["towards"] + [0, 0, 1]
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[:, None] ** np.where(gloss > 2.5, 60, 18)
    lit = (
        light["sky"] * (0.72 - 0.28 * normal[:, 1:2])
        + light["lamp"] * np.clip((towards + 0.15) / 1.15, 0, None)[:, None]
    )
    colour = albedo * lit + light["gloss"] * gloss * shine * light["lamp"]
    plane = scene.background
    image = _moved(plane.texture, plane.moves[t], size, finer)
    image[shown] = np.clip(light["gain"] * colour, 0, 1) ** light["gamma"]
    if scene.occluder is not None:
        front = _moved(scene.occluder.texture, scene.occluder.moves[t], size, finer)
        image += (front - image) * buffer.occluded[..., None]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def expose(rng: np.random.Generator, image: np.ndarray, light: dict, motion: np.ndarray) -> np.ndarray:
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


# --- truth ---


def ground_truth_flow(
    scene: Scene, here: int, there: int, buffer: Buffer, fine_there: Buffer
) -> tuple[np.ndarray, np.ndarray]:
    """Flow (2, S, S) px from the pixels of one frame to another, and where (S, S) it ends hidden or outside."""
    mesh, side = canonical_mesh(), buffer.face.shape[0]
    y, x = np.mgrid[:side, :side].astype(float)
    pixels = np.stack([x, y], -1)

    def propagated(plane: Plane) -> np.ndarray:
        to_texture = cv2.invertAffineTransform(plane.moves[here])
        texture = pixels @ to_texture[:, :2].T + to_texture[:, 2]
        return texture @ plane.moves[there][:, :2].T + plane.moves[there][:, 2]

    target, depth = propagated(scene.background), np.full((side, side), BEHIND)
    shown = buffer.face >= 0
    triangle, weights = buffer.face[shown], buffer.weights[shown]
    target[shown] = _mix(scene.projected[there][:, :2], mesh.faces[triangle], weights)
    depth[shown] = _depth(triangle, weights, scene.projected[there])
    if scene.occluder is not None:
        before = buffer.occluded > 0.5
        target[before], depth[before] = propagated(scene.occluder)[before], BEFORE
    hidden = is_hidden(target.reshape(-1, 2), depth.ravel(), fine_there, side).reshape(side, side)
    return (target - pixels).transpose(2, 0, 1).astype(np.float32), hidden


def is_hidden(points: np.ndarray, depth: np.ndarray, fine: Buffer, side: int) -> np.ndarray:
    """Whether points (n, 2) px at a depth (n,) mm are outside the frame or behind all of the four fine pixels around
    them.
    """
    finer = fine.depth.shape[0] // side
    places = points * finer + (finer - 1) / 2
    low = np.floor(places).astype(int)
    nearest = np.full(len(points), np.inf)
    for step in ((0, 0), (1, 0), (0, 1), (1, 1)):
        column, row = np.clip(low + step, 0, fine.depth.shape[0] - 1).T
        nearest = np.minimum(nearest, fine.depth[row, column])
    outside = ((points < -0.5) | (points > side - 0.5)).any(1)
    return outside | (nearest > depth + NEARER)


def surface_tracks(
    scene: Scene, fine: list[Buffer], side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random points of head, background and occluder in every frame (T, N, 2) px, and whether they are visible (T, N);
    N is the same for all scenes.

    Points of the head that two frames show are taken first: of the others there is little to learn.
    """

    def visible(points: np.ndarray, depth: np.ndarray) -> np.ndarray:
        return np.stack([~is_hidden(p, d, buffer, side) for p, d, buffer in zip(points, depth, fine)])

    skin = rng.permutation(_skin())[: 4 * HEAD_TRACKS]
    surface = scene.projected[:, skin]
    often = visible(surface[..., :2], surface[..., 2]).sum(0) >= min(2, len(fine))
    head = surface[:, np.argsort(~often, kind="stable")[:HEAD_TRACKS]]
    points, depths = [head[..., :2]], [head[..., 2]]
    front = scene.occluder is not None
    start = rng.uniform(-0.5, side - 0.5, (GROUND_TRACKS + (0 if front else FRONT_TRACKS), 2))
    to_texture = cv2.invertAffineTransform(scene.background.moves[len(fine) // 2])
    planes = [(scene.background, apply_affine(to_texture, start), BEHIND)]
    if front:
        rows, columns = np.nonzero(scene.occluder.alpha > 0.9)
        chosen = rng.integers(len(rows), size=FRONT_TRACKS)
        planes.append((scene.occluder, np.stack([columns, rows], -1)[chosen].astype(float), BEFORE))
    for plane, texture, depth in planes:
        points.append(apply_affine(plane.moves, texture))
        depths.append(np.full(points[-1].shape[:2], depth))
    tracks = np.concatenate(points, 1)
    return tracks.astype(np.float32), visible(tracks, np.concatenate(depths, 1))


@lru_cache
def _skin() -> np.ndarray:
    """Vertices (n,) of the head's surface, without the holes of eyes and mouth, which show what lies behind."""
    mesh = canonical_mesh()
    holed = np.unique(mesh.faces[mesh.holed])
    hole = holed[in_hole(*mesh.vertices[holed, :2].T)]
    return np.setdiff1d(np.arange(mesh.slices["head"].stop), hole)
