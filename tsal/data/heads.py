"""A parametric 3-D head: canonical mesh, identities, expressions and painted skin, all analytic.

Head space is millimetres: x right in the picture, y down, z towards the camera, the eyes at y = 2.5, the ears near z = 0.
The surface is a grid of angles about the vertical axis by heights, so a grid vertex is also a place in the texture.
Canonically the eyes stand open and the lips apart: the inside of an eye and of the mouth is a hole in the surface, whose rim
the expressions move. A surface point (and so a landmark) is a triangle and three weights, whatever the head does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

TEXELS = 3                       # texels between neighbouring grid vertices
EYE = np.array([32.0, 2.5])      # centre of the eye at the picture's right
EYE_HALF, MOUTH_HALF = 14.0, 22.0
EYE_MID, MOUTH_MID = 3.3, 71.0   # heights of the corners of eyes and mouth
BALL = 15.5                      # radius of an eyeball
HOLE_DEPTH = 30.0                # the hole's floor lies this far behind the surface: nothing is ever seen through a head
EYE_PATCH, MOUTH_PATCH, SWATCH = 64, 64, 16  # sides of the small textures right of the head's

_ROWS = ((-115, -35, 14), (-35, -9, 9), (-9, 13, 18), (13, 40, 9), (40, 60, 15),
         (60, 88, 22), (88, 124, 13), (124, 210, 9), (210, 330, 3))
_COLUMNS = ((0, 42, 30), (42, 92, 18), (92, 125, 9), (125, 180, 6))


def smoothstep(value, low=0.0, high=1.0):
    """0 below ``low``, 1 above ``high``, smooth between."""
    share = np.clip((value - low) / (high - low), 0.0, 1.0)
    return share * share * (3.0 - 2.0 * share)


def bump(x, y, centre, radii):
    """Gaussian hill of height one."""
    return np.exp(-(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2))


def eye_lids(x):
    """Heights of the rims of the canonical upper and lower lid at x (either eye)."""
    across = np.minimum(np.abs((np.abs(x) - EYE[0]) / EYE_HALF), 1.0)
    return EYE_MID - 6.3 * (1 - across**2.3), EYE_MID + 4.2 * (1 - across**2)


def lip_rims(x):
    """Heights of the inner rims of the canonical upper and lower lip at x."""
    lens = 1 - np.minimum(np.abs(x) / MOUTH_HALF, 1.0) ** 2
    return MOUTH_MID - 3.0 * lens, MOUTH_MID + 3.0 * lens


def in_hole(x, y):
    """Whether canonical places of the face's front lie inside an eye or the mouth."""
    upper_lid, lower_lid = eye_lids(x)
    upper_lip, lower_lip = lip_rims(x)
    return ((y > upper_lid) & (y < lower_lid)) | ((y > upper_lip) & (y < lower_lip))


def canonical_landmarks() -> tuple[np.ndarray, np.ndarray]:
    """The jaw's 17 landmarks as (angle in degrees, height), and the other 51 as frontal (x, y) mm, in iBUG order."""
    half_jaw = [(-80, -3), (-80, 18), (-79, 38), (-74, 56), (-62, 73), (-48, 89), (-33, 101), (-17, 109.5)]
    jaw = half_jaw + [(0, 112.5)] + [(-a, y) for a, y in half_jaw[::-1]]
    brow = [(-59, -12), (-51, -19), (-39, -22.5), (-27, -21.5), (-15, -17)]
    brows = brow + [(-x, y) for x, y in brow[::-1]]
    nose = [(0, -4), (0, 12), (0, 27), (0, 41), (-14, 50.5), (-7, 53.5), (0, 55.5), (7, 53.5), (14, 50.5)]
    lid = lambda x, low: (x, float(eye_lids(x)[low]))  # noqa: E731
    left_eye = [lid(-46, 0), lid(-37.5, 0), lid(-26.5, 0), lid(-18, 0), lid(-26.5, 1), lid(-37.5, 1)]
    right_eye = [lid(18, 0), lid(26.5, 0), lid(37.5, 0), lid(46, 0), lid(37.5, 1), lid(26.5, 1)]
    outer = [(-26, MOUTH_MID), (-16, 64.5), (-6, 61.5), (0, 62.8), (6, 61.5), (16, 64.5), (26, MOUTH_MID)]
    outer += [(16, 80), (7, 83), (0, 83.6), (-7, 83), (-16, 80)]
    rim = lambda x, low: (x, float(lip_rims(x)[low]))  # noqa: E731
    inner = [rim(-22, 0), rim(-9, 0), rim(0, 0), rim(9, 0), rim(22, 0), rim(9, 1), rim(0, 1), rim(-9, 1)]
    return np.array(jaw, float), np.array(brows + nose + left_eye + right_eye + outer + inner, float)


def _jaw_height(degrees):
    """Height of the edge under which the face turns to the neck, by the absolute angle."""
    return np.interp(degrees, [0, 17, 33, 48, 62, 74, 80, 95, 120, 180], [114, 111, 102.5, 90.5, 74.5, 57.5, 49, 42, 60, 70])


def _radius(theta, y):
    """Distance of the canonical surface from the vertical axis, without the relief of the face."""
    heights = [-115, -113, -108, -98, -85, -60, -25, 0, 30, 60, 90, 112]
    front = np.interp(y, heights, [0, 14, 38, 60, 75, 90, 95, 91, 90, 91, 88, 84])
    side = np.interp(y, heights, [0, 12, 32, 50, 63, 74, 78, 76, 73, 67, 57, 52])
    back = np.interp(y, [-115, -113, -108, -98, -85, -60, -20, 20, 60, 120], [0, 16, 45, 68, 84, 100, 105, 96, 76, 58])
    neck_side = np.interp(y, [40, 120, 150, 175, 210], [56, 53, 60, 105, 160])
    neck_front = np.interp(y, [40, 120, 150, 175, 210], [44, 38, 40, 55, 78])
    neck_back = np.interp(y, [40, 120, 150, 175, 210], [64, 58, 60, 72, 90])

    def ellipse(width, ahead, behind, power):
        depth = np.where(np.cos(theta) > 0, ahead, behind)
        across, along = np.abs(np.sin(theta)) / (width + 1e-9), np.abs(np.cos(theta)) / (depth + 1e-9)
        return (across**power + along**power) ** (-1 / power)

    head, neck = ellipse(side, front, back, 2.15), ellipse(neck_side, neck_front, neck_back, 2.0)
    under = smoothstep(y - _jaw_height(np.abs(np.degrees(theta))), -3.5, 14.0)
    return head + (neck - head) * under


def _relief(x, y):
    """Height of the face's features over the plain surface, at frontal places, mm."""
    ax = np.abs(x)
    heights = [-24, -14, -5, 10, 25, 35, 41, 45, 49, 52, 56, 60]
    ridge = np.interp(y, heights, [0, 2.5, 4, 10.5, 18.5, 25, 27.5, 25.5, 19.5, 12.5, 4, 0])
    width = np.interp(y, [-14, 0, 20, 34, 44, 58], [11, 7.5, 8.5, 10.5, 13, 13])
    nose = ridge * np.exp(-((ax / width) ** 2.2)) + 7.5 * bump(ax, y, (12.5, 46.5), (5.5, 6))
    eyes = -9 * bump(ax, y, (27, 5), (16, 12)) - 3 * bump(ax, y, (20, -3), (8, 9))
    brow = 5 * bump(ax, y, (30, -19), (26, 9)) - 3 * bump(ax, y, (68, -22), (14, 25))
    cheek = 4.5 * bump(ax, y, (47, 30), (18, 17)) - 3.5 * bump(ax, y, (48, 62), (15, 20))
    mouth = 6.5 * bump(ax, y, (0, 72), (27, 19)) - 1.5 * bump(ax, y, (0, 58), (4, 5)) - 2 * bump(ax, y, (27, 71), (5, 6))
    lips = 3 * bump(ax, y, (0, 66), (19, 3.8)) + 4 * bump(ax, y, (0, 78), (17, 4.5)) - 4 * bump(ax, y, (0, 88), (18, 5))
    chin = 6 * bump(ax, y, (0, 101), (19, 10))
    return nose + eyes + brow + cheek + mouth + lips + chin


@dataclass(frozen=True)
class Mesh:
    """The canonical mesh of head, teeth, eyeballs and glasses: V vertices, N of them the head's grid, and F triangles."""

    vertices: np.ndarray         # (V, 3) mm; an eyeball's are offsets from its centre
    faces: np.ndarray            # (F, 3)
    texels: np.ndarray           # (V, 2) place in the texture atlas
    two_sided: np.ndarray        # (F,) bool
    holed: np.ndarray            # (F,) bool: triangles that may hold a hole
    shape: tuple[int, int]       # rows and columns of the head's grid
    theta: np.ndarray            # (N,) angle of the head's vertices
    slices: dict                 # name of a part -> slice of its vertices
    eyes: np.ndarray             # (2, 3) centres of the eyeballs
    landmark_faces: np.ndarray   # (68,)
    landmark_weights: np.ndarray # (68, 3)
    basis: dict                  # name of an expression -> (N, 3) mm at strength one
    jaw: np.ndarray              # (V,) how much a vertex follows the lower jaw
    neck: np.ndarray             # (V,) 0 for the head to 1 for the shoulders


def _grid_faces(rows: int, columns: int, first: int = 0) -> np.ndarray:
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel() + first
    upper = np.stack([corner, corner + 1, corner + columns], 1)
    lower = np.stack([corner + 1, corner + columns + 1, corner + columns], 1)
    return np.concatenate([upper, lower])


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _locate(places: np.ndarray, plane: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The triangle (row of ``faces``) and the weights of each place (K, 2), for vertices at ``plane`` (V, 2)."""
    a, b, c = (plane[faces[:, i]] for i in range(3))
    p, area = places[:, None], _cross(b - a, c - a)
    weights = np.stack([_cross(b - p, c - p), _cross(c - p, a - p), _cross(a - p, b - p)], -1) / area[:, None]  # (K, F, 3)
    face = weights.min(-1).argmax(1)
    chosen = weights[np.arange(len(places)), face]
    assert (chosen > -1e-6).all(), "a landmark lies outside the canonical surface"
    return face, chosen


def _axis(pieces) -> np.ndarray:
    """Grid positions from (start, end, steps) pieces."""
    return np.concatenate([np.linspace(low, high, steps, endpoint=False) for low, high, steps in pieces] + [[pieces[-1][1]]])


def _expressions(x, y, front) -> dict:
    """Displacement fields (N, 3) mm of the head's vertices at frontal canonical places, each at strength one."""
    ax, side, none = np.abs(x), np.sign(x), np.zeros_like(x)
    corner, cheek = bump(ax, y, (26, 71), (14, 12)), bump(ax, y, (44, 42), (16, 14))
    upper, lower = eye_lids(x)
    # A lid follows its rim fully at the rim and not at all 11 mm away. Inside a hole the field only has to be flat by the
    # rims, so that the triangles that hold a rim follow it: the hole's floor lies behind whatever it folds over.
    inside = np.clip((y - upper) / np.maximum(lower - upper, 1e-6), 0, 1)
    lid = np.where(y < upper, smoothstep(y, upper - 11, upper), 1 - smoothstep(inside, 0.4, 1)) * (lower - upper)
    low_lid = np.where(y > lower, 1 - smoothstep(y, lower, lower + 10), inside) * (lower - upper)
    upper_rim, lower_rim = lip_rims(x)
    reach = np.exp(-((np.maximum(np.maximum(upper_rim - y, y - lower_rim), 0) / 9) ** 2))
    shut = reach * np.where(y < MOUTH_MID, MOUTH_MID - upper_rim, MOUTH_MID - lower_rim)
    raised = bump(ax, y, (36, -22), (26, 13))
    inner = bump(ax, y, (17, -19), (14, 10))
    lips = bump(ax, y, (0, 72), (24, 14))
    fields = {
        "smile": (6.5 * side * corner + 1.5 * side * cheek, -6 * corner - 3 * cheek, -4 * corner + 3.5 * cheek),
        "pucker": (-7 * side * corner, none, 4.5 * lips),
        "brow": (none, -7 * raised, none),
        "frown": (-3.5 * side * inner, 4 * inner, 1.5 * inner),
        "blink": (none, 0.97 * lid, none),
        "squint": (none, -low_lid, 1.5 * bump(ax, y, (34, 12), (14, 6))),
        "shut": (none, shut, none),
    }
    return {name: np.stack(field, -1) * front[:, None] for name, field in fields.items()}


def _glasses(z: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (G, 3) mm and triangles of a pair of glasses whose front stands at depth z."""
    vertices, faces, count = [], [], 0
    turn = np.linspace(0, 2 * np.pi, 29)
    squared = (np.abs(np.cos(turn)) ** 3 + np.abs(np.sin(turn)) ** 3) ** (-1 / 3)  # between a circle and a square
    ring = np.stack([np.cos(turn), np.sin(turn)], -1) * squared[:, None]
    strips = []
    for side in (-1, 1):
        middle = np.array([side * 33, 4])
        strips.append([np.column_stack([middle + ring * radii, np.full(29, z)]) for radii in ([25.5, 19.5], [22.3, 16.3])])
        temple = np.linspace(0, 1, 7)[:, None] * np.array([[side * 21.0, 0, -z - 5]]) + np.array([[side * 58.0, -4, z]])
        temple[1:, 0] = side * np.interp(temple[1:, 2], [-5, 40, z], [84, 80, 66])
        strips.append([temple, temple + [0, 3.5, 0]])
    bridge = np.column_stack([np.linspace(-9, 9, 5), [0, -1.5, -2, -1.5, 0], np.full(5, z + 1)])
    strips.append([bridge, bridge + [0, 3, 0]])
    for first, second in strips:
        vertices += [first, second]
        faces.append(_grid_faces(2, len(first), count))
        count += 2 * len(first)
    return np.concatenate(vertices), np.concatenate(faces)


def _patch(u, v, side: int) -> np.ndarray:
    """Shares of a square texture's sides -> its texels (n, 2)."""
    return np.stack([u * (side - 1), v * (side - 1)], -1).reshape(-1, 2)


@lru_cache(maxsize=1)
def canonical_mesh() -> Mesh:
    """The one mesh that all heads share."""
    half = _axis(_COLUMNS)
    degrees, heights = np.concatenate([-half[:0:-1], half]), _axis(_ROWS)
    rows, columns = len(heights), len(degrees)
    y, angle = (grid.ravel() for grid in np.meshgrid(heights, degrees, indexing="ij"))
    theta = np.radians(angle)
    radius = _radius(theta, y)
    front = smoothstep(np.cos(theta), 0.05, 0.45)
    x_plain = radius * np.sin(theta)
    z = radius * np.cos(theta) + _relief(x_plain, y) * front
    ear = 9 * bump(np.abs(angle), y, (101, 20), (7, 25)) - 2 * bump(np.abs(angle), y, (95, 22), (4, 13))
    x = x_plain + ear * np.sin(theta)
    head = np.stack([x, y, z + ear * np.cos(theta)], -1)
    faces = [_grid_faces(rows, columns)]

    jaw_angles, frontal = canonical_landmarks()
    jaw_faces, jaw_weights = _locate(jaw_angles, np.stack([angle, y], -1), faces[0])
    facing = np.flatnonzero((np.abs(angle)[faces[0]] < 75).all(1))
    inner_faces, inner_weights = _locate(frontal, head[:, :2], faces[0][facing])
    ball_face, ball_weight = _locate(EYE[None], head[:, :2], faces[0][facing])
    depth = float(ball_weight[0] @ head[faces[0][facing][ball_face[0]], 2])
    centre = np.array([*EYE, depth - 12.5])

    tooth_x, tooth_y = np.meshgrid(np.linspace(-24, 24, 9), np.array([58, 62, 67, 72, 73, 77, 81, 86]))
    lip_depth = head[np.abs(head[:, :2] - [0, MOUTH_MID]).sum(1).argmin(), 2]
    teeth = np.stack([tooth_x, tooth_y, lip_depth - 9 - tooth_x**2 / 45], -1).reshape(-1, 3)
    faces.append(_grid_faces(*tooth_x.shape, len(head)))

    ax, ay = np.meshgrid(np.radians(np.linspace(-75, 75, 15)), np.radians(np.linspace(-75, 75, 15)))
    ball = BALL * np.stack([np.sin(ax) * np.cos(ay), np.sin(ay), np.cos(ax) * np.cos(ay)], -1).reshape(-1, 3)
    start = len(head) + len(teeth)
    faces += [_grid_faces(15, 15, start + i * len(ball)) for i in range(2)]
    frame, frame_faces = _glasses(depth + 15)
    faces.append(frame_faces + start + 2 * len(ball))

    bounds = np.cumsum([0, len(head), len(teeth), len(ball), len(ball), len(frame)])
    parts = ("head", "teeth", "ball_left", "ball_right", "glasses")
    slices = {name: slice(*bounds[i : i + 2]) for i, name in enumerate(parts)}
    row, column = np.divmod(np.arange(len(head)), columns)
    right = (columns - 1) * TEXELS + 8
    ball_texels = _patch(ax / np.radians(150) + 0.5, ay / np.radians(150) + 0.5, EYE_PATCH) + [right, 0]
    tooth_texels = _patch((tooth_x + 24) / 48, (tooth_y - 58) / 28, MOUTH_PATCH) + [right, EYE_PATCH + 8]
    swatch = np.full((len(frame), 2), 0.0) + [right + SWATCH / 2, EYE_PATCH + MOUTH_PATCH + 16 + SWATCH / 2]
    texels = np.concatenate([np.stack([column, row], -1) * TEXELS, tooth_texels, ball_texels, ball_texels, swatch])

    # The lower jaw: everything under the mouth line in front, fading to the ears and down the neck; the lips part sharply.
    band = 3 + 26 * smoothstep(np.abs(x), 17, 55)
    jaw = smoothstep((y - MOUTH_MID) / band, -1, 1) * smoothstep(z, -5, 35)
    jaw *= 1 - smoothstep(y - _jaw_height(np.abs(angle)), 4, 34)
    vertices = np.concatenate([head, teeth, ball, ball, frame])
    all_jaw = np.concatenate([jaw, smoothstep(teeth[:, 1], 72, 73), np.zeros(len(vertices) - start)])
    neck = np.zeros(len(vertices))
    neck[: len(head)] = smoothstep(y, 114, 200)
    counts = [len(f) for f in faces]
    near_eye = (np.abs(np.abs(x) - EYE[0]) < EYE_HALF + 4) & (np.abs(y - EYE_MID) < 9)
    near_hole = (near_eye | (np.abs(x) < MOUTH_HALF + 4) & (np.abs(y - MOUTH_MID) < 6)) & (front > 0)
    return Mesh(
        vertices=vertices, faces=np.concatenate(faces), texels=texels.astype(np.float32), shape=(rows, columns), theta=theta,
        two_sided=np.repeat([False, True, False, False, True], counts),
        holed=np.concatenate([near_hole[faces[0]].any(1), np.zeros(sum(counts[1:]), bool)]),
        slices=slices, eyes=np.stack([centre * [-1, 1, 1], centre]),
        landmark_faces=np.concatenate([jaw_faces, facing[inner_faces]]),
        landmark_weights=np.concatenate([jaw_weights, inner_weights]),
        basis=_expressions(x, y, front), jaw=all_jaw, neck=neck,
    )


# --- identity -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """One person: the resting shape, the skin, and what is worn."""

    vertices: np.ndarray  # (V, 3) mm
    eyes: np.ndarray      # (2, 3) mm
    ball: float           # scale of the eyeballs
    gaps: dict            # the resting gap of "blink" (lids) and "shut" (lips), over the canonical one
    faces: np.ndarray     # (F,) bool: triangles in use (glasses or not)
    albedo: np.ndarray    # (H, W, 3) float32 texture, linear light
    gloss: np.ndarray     # (H, W) float32


def make_head(rng: np.random.Generator) -> Head:
    """A random person."""
    mesh = canonical_mesh()
    warp = _identity_warp(rng)
    head, look = mesh.slices["head"], _look(rng)
    canonical = mesh.vertices[head]
    vertices = mesh.vertices.copy()
    for part in ("head", "teeth", "glasses"):
        vertices[mesh.slices[part]] = warp(mesh.vertices[mesh.slices[part]])
    hair = _hair_mask(np.abs(np.degrees(mesh.theta)), canonical[:, 1], look)
    outward = canonical - [0, -5, -5]
    outward[:, 1] *= canonical[:, 1] < 0  # hair that hangs stands off to the side
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    lump = 1 + 0.25 * np.sin(canonical[:, 0] / 13 + look["phase"]) * np.sin(canonical[:, 1] / 17 + canonical[:, 2] / 15)
    vertices[head] += outward * (hair * lump * look["volume"])[:, None]
    faces = np.ones(len(mesh.faces), bool)
    if not look["glasses"]:
        faces[(mesh.faces >= mesh.slices["glasses"].start).all(1)] = False
    albedo, gloss = _paint(rng, look)
    eyes = warp(mesh.eyes)
    ball = float(np.clip((eyes[1, 0] - eyes[0, 0]) / 64, 0.9, 1.1))
    own, usual = landmarks(vertices)[:, 1], landmarks(mesh.vertices)[:, 1]
    pairs = {"blink": ([41, 40, 47, 46], [37, 38, 43, 44]), "shut": ([65, 66, 67], [63, 62, 61])}
    gaps = {name: float((own[low] - own[top]).mean() / (usual[low] - usual[top]).mean()) for name, (low, top) in pairs.items()}
    return Head(vertices, eyes, ball, gaps, faces, albedo, gloss)


def _identity_warp(rng: np.random.Generator):
    """A smooth random map of head space, nearly mirror-symmetric."""
    size = np.exp(rng.normal(0, [0.05, 0.04, 0.05]))
    jaw_width, low_face, nose_tip, nose_width = rng.normal(0, [0.08, 0.06, 3.5, 0.14])
    centres = np.stack([rng.uniform(0, 75, 22), rng.uniform(-70, 120, 22)], -1)
    pushes = rng.normal(0, [1.8, 1.8, 2.2], (22, 3))
    skew = rng.normal(0, 0.5, (22, 3))

    def warp(points):
        x, y, z = points.T
        side, front = np.sign(x) * smoothstep(np.abs(x), 0, 12), smoothstep(z, 0, 50)
        away = (np.abs(x)[:, None] - centres[:, 0]) ** 2 + (y[:, None] - centres[:, 1]) ** 2
        hills = np.exp(-away / 28.0**2) * front[:, None]
        moved = points * size + hills @ pushes * np.stack([side, np.ones_like(x), np.ones_like(x)], -1) + hills @ skew
        moved[:, 0] += x * jaw_width * smoothstep(y, 20, 95) * (1 - smoothstep(y, 115, 140))
        moved[:, 0] += x * nose_width * bump(x, y, (0, 46), (20, 14)) * front
        moved[:, 1] += y * low_face * smoothstep(y, 10, 60)
        moved[:, 2] += nose_tip * bump(x, y, (0, 40), (12, 17)) * front
        return moved

    return warp


def _look(rng: np.random.Generator) -> dict:
    """Colours and wear of a person; colours are sRGB in [0, 1]."""
    tone = rng.beta(1.3, 1.5)
    skin = np.array([[0.95, 0.79, 0.70], [0.88, 0.68, 0.55], [0.76, 0.54, 0.41], [0.56, 0.37, 0.26], [0.36, 0.23, 0.17]])
    skin = np.array([np.interp(tone * 4, range(5), skin[:, c]) for c in range(3)]) + rng.normal(0, 0.015, 3)
    hairs = [[0.07, 0.05, 0.045], [0.16, 0.10, 0.07], [0.30, 0.19, 0.11], [0.62, 0.47, 0.28]]
    hairs += [[0.45, 0.20, 0.09], [0.62, 0.61, 0.60]]
    chance = np.array([4, 3, 2.0, 1.5, 0.7, 1.2]) if tone < 0.55 else np.array([7, 1.5, 0.3, 0.1, 0.05, 0.8])
    bearded = rng.random() < 0.4
    irises = np.array([[0.22, 0.13, 0.07], [0.33, 0.22, 0.12], [0.32, 0.38, 0.24], [0.33, 0.45, 0.55]])
    return {
        "skin": np.clip(skin, 0.05, 1),
        "hair": np.array(hairs)[rng.choice(6, p=chance / chance.sum())] * rng.uniform(0.8, 1.2),
        "iris": irises[rng.choice(4, p=[0.4, 0.3, 0.15, 0.15] if tone < 0.5 else [0.85, 0.15, 0, 0])],
        "lip": rng.uniform(0.15, 0.75) * (0.5 if bearded else 1.0), "bald": rng.random() < 0.12,
        "line": rng.normal(-64, 6), "peak": rng.uniform(-5, 12), "long": not bearded and rng.random() < 0.5,
        "fringe": rng.random() < 0.2, "volume": rng.uniform(3, 13), "phase": rng.uniform(0, 6), "glasses": rng.random() < 0.2,
        "beard": rng.uniform(0.3, 1.0) if bearded else 0.0, "moustache": rng.random() < 0.8, "brow": rng.uniform(2.0, 3.9),
        "brow_strength": rng.uniform(0.45, 0.95), "age": rng.beta(1.2, 2.5),
        "shirt": np.clip(rng.uniform(0.08, 0.85) + rng.normal(0, 0.13, 3), 0.03, 0.95),
        "frame": rng.choice([0.03, 0.1, 0.3]) * rng.uniform(0.6, 1.4, 3),
    }


def _hair_mask(angle, y, look) -> np.ndarray:
    """Share of hair in [0, 1] at absolute angles (degrees) and heights (mm)."""
    if look["bald"]:
        return np.zeros_like(y)
    line = look["line"] + (26 if look["fringe"] else 0)
    low = 170.0
    behind = [low] * 5 if look["long"] else [8, -8, 30, 80, 95]
    knots = [line + look["peak"] * 0.3, line - 2, line + 6, -22, *behind]
    edge = np.interp(angle, [0, 18, 38, 60, 76, 90, 112, 135, 180], knots)
    return smoothstep(edge - y, -3.5, 4.5)


# --- skin ---------------------------------------------------------------------------------------------------


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of unit deviation, ``cells`` rows and columns of independent values."""
    return cv2.resize(rng.normal(size=cells).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=1)
def _texel_places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canonical x (mm), y (mm) and angle (degrees) of every texel of the head's texture."""
    mesh = canonical_mesh()
    (rows, columns), head = mesh.shape, mesh.slices["head"]
    fields = np.stack([mesh.vertices[head, 0], mesh.vertices[head, 1], np.degrees(mesh.theta)], -1).reshape(rows, columns, 3)
    column, row = np.meshgrid(np.arange((columns - 1) * TEXELS + 1) / TEXELS, np.arange((rows - 1) * TEXELS + 1) / TEXELS)
    places = cv2.remap(fields.astype(np.float32), column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    return places[..., 0], places[..., 1], places[..., 2]


def _blend(image, colour, share):
    return image + (np.asarray(colour, np.float32) - image) * share[..., None]


def _paint(rng: np.random.Generator, look: dict) -> tuple[np.ndarray, np.ndarray]:
    """The texture atlas: linear albedo (H, W, 3) and gloss (H, W), float32."""
    x, y, angle = _texel_places()
    ax, shape, front = np.abs(x), x.shape, np.abs(angle) < 80
    image = np.tile(look["skin"].astype(np.float32), (*shape, 1))
    for strength, cells in ((0.02, (26, 30)), (0.022, (130, 150)), (0.03, (11, 9))):
        image *= (1 + strength * noise(rng, shape, cells))[..., None]
    red = 0.5 * bump(ax, y, (42, 38), (20, 18)) + 0.45 * bump(ax, y, (0, 42), (15, 14))
    red += 0.25 * bump(np.abs(angle), y, (96, 22), (12, 30))
    image = _blend(image, look["skin"] * [1.02, 0.78, 0.74], red * front)
    image = _paint_face(rng, look, image)
    image = _paint_hair(rng, look, image)
    shirt = smoothstep(y, 138 + 10 * np.cos(np.radians(angle)), 140 + 10 * np.cos(np.radians(angle)))
    image = _blend(image, look["shirt"], shirt)
    gloss = np.full(shape, 0.55, np.float32) * (0.6 + 0.8 * bump(ax, y, (0, 20), (30, 60))) * (1 - shirt)
    gloss += 0.8 * bump(ax, y, (0, 79), (16, 3))

    height = max(shape[0], EYE_PATCH + MOUTH_PATCH + SWATCH + 20)
    atlas = np.zeros((height, shape[1] + 8 + max(EYE_PATCH, MOUTH_PATCH), 3), np.float32)
    shine = np.zeros(atlas.shape[:2], np.float32)
    atlas[: shape[0], : shape[1]], shine[: shape[0], : shape[1]] = image, gloss
    left = shape[1] + 7
    atlas[:EYE_PATCH, left : left + EYE_PATCH], shine[:EYE_PATCH, left:] = _paint_ball(rng, look), 3.0
    top = EYE_PATCH + 8
    atlas[top : top + MOUTH_PATCH, left : left + MOUTH_PATCH], shine[top : top + MOUTH_PATCH, left:] = _paint_teeth(rng), 0.6
    top += MOUTH_PATCH + 8
    atlas[top : top + SWATCH, left : left + SWATCH], shine[top : top + SWATCH, left:] = look["frame"], 2.0
    return np.clip(atlas, 0.01, 1) ** np.float32(2.2), shine


def _paint_face(rng, look, image) -> np.ndarray:
    """Shadows, folds, lips, eyes' surround, nostrils and brows."""
    x, y, angle = _texel_places()
    ax, front = np.abs(x), np.abs(angle) < 80
    dark = 0.30 * bump(ax, y, (20, 0), (9, 10)) + 0.15 * bump(ax, y, (32, 10), (15, 7)) + 0.22 * bump(ax, y, (16, 44), (4, 7))
    dark += 0.26 * bump(ax, y, (0, 57), (12, 3.0))
    dark += 0.22 * bump(ax, y, (0, 88), (15, 3.5)) + 0.12 * bump(ax, y, (9, 20), (4, 16))
    fold = np.interp(y, [44, 52, 62, 72], [17, 20, 26, 30])
    beside_mouth = smoothstep(y, 46, 52) * (1 - smoothstep(y, 66, 76))
    dark += (0.08 + 0.22 * look["age"]) * np.exp(-(((ax - fold) / 2.2) ** 2)) * beside_mouth
    wrinkle = np.sin((y + 0.004 * x**2) / 9 * 2 * np.pi) ** 6 * bump(ax, y, (0, -45), (40, 16))
    dark += 0.16 * look["age"] * wrinkle * front
    under = smoothstep(y - _jaw_height(np.abs(angle)).astype(np.float32), 0, 10)
    dark = dark * front + 0.42 * under * (1 - smoothstep(y, 118, 165)) + 0.3 * bump(np.abs(angle), y, (94, 24), (3, 12))
    image = image * np.stack([1 - np.clip(dark * k, 0, 0.9) for k in (0.85, 1.0, 1.05)], -1)
    if rng.random() < 0.2:
        spots = smoothstep(noise(rng, x.shape, (150, 130)), 1.4, 2.2) * (bump(ax, y, (25, 32), (35, 25)) * front)
        image = _blend(image, look["skin"] * 0.6, 0.6 * spots)
    for _ in range(rng.integers(0, 4)):  # moles
        place = rng.uniform(-55, 55), rng.uniform(-50, 100)
        image = _blend(image, look["skin"] * 0.35, 0.8 * bump(x, y, place, (1.3, 1.3)) * front)

    knots = [0, 6, 16, 26]
    top, low = np.interp(ax, knots, [62.6, 61.3, 64.3, 71]), np.interp(ax, knots, [83.8, 83.2, 80, 71])
    lips = smoothstep(np.minimum(y - top, low - y), -0.8, 1.0) * (ax < 28)
    rouge = np.array([0.72, 0.16, 0.20]) * (0.4 + 0.6 * look["skin"].mean())
    lip = look["skin"] + 0.6 * look["lip"] * (rouge - look["skin"])
    image = _blend(image, lip * [1.0, 0.86, 0.86], 0.9 * lips)
    upper_rim, lower_rim = lip_rims(x)
    line = np.exp(-((np.minimum(np.abs(y - upper_rim), np.abs(y - lower_rim)) / 1.1) ** 2)) * (ax < 24.5)
    mouth = np.maximum(0.65 * line, (y > upper_rim) & (y < lower_rim)) * front
    image = _blend(image, [0.16, 0.05, 0.05], mouth)

    upper, lower = eye_lids(x)
    near = np.abs(ax - EYE[0]) < EYE_HALF + 1.5
    lash = np.exp(-(((y - upper + 0.5) / 1.3) ** 2)) * 0.9 + 0.45 * np.exp(-(((y - lower - 0.3) / 1.0) ** 2))
    crease = 0.2 * np.exp(-(((y - upper + 5.0) / 1.2) ** 2))
    image = _blend(image, look["skin"] * 0.45, crease * near * front)
    image = _blend(image, look["hair"] * 0.3 + 0.03, np.clip(lash, 0, 1) * near * front)
    image = _blend(image, [0.35, 0.16, 0.15], ((y > upper) & (y < lower) & near & front).astype(np.float32))
    nostril = smoothstep(bump(ax, y, (6.8, 53.0), (3.4, 1.5)), 0.25, 0.7)
    image = _blend(image, look["skin"] * 0.2, 0.9 * nostril * front)

    middle = np.interp(ax, [12, 15, 27, 39, 51, 59, 63], [-15.8, -17, -21.5, -22.5, -19, -12, -9])
    thick = look["brow"] * np.interp(ax, [11, 17, 40, 62], [0.75, 1.1, 1.0, 0.35])
    hairs = 0.75 + 0.25 * noise(rng, x.shape, (90, 220))
    brow = smoothstep(1.5 - np.abs(y - middle) / thick, 0, 1.0) * smoothstep(ax, 10.5, 15) * (1 - smoothstep(ax, 57, 64))
    return _blend(image, look["hair"] * 0.65, np.clip(brow * hairs * look["brow_strength"], 0, 1) * front)


def _paint_hair(rng, look, image) -> np.ndarray:
    """The hair of head and beard."""
    x, y, angle = _texel_places()
    ax, away = np.abs(x), np.abs(angle)
    ragged = 2.2 * noise(rng, x.shape, (25, 40)) + 2.5 * noise(rng, x.shape, (25, 170))
    streaks = 1 + 0.22 * noise(rng, x.shape, (9, 150)) + 0.12 * noise(rng, x.shape, (25, 300))
    hair = _hair_mask(away, y + ragged, look)
    image = _blend(image, np.clip(look["hair"] * streaks[..., None], 0, 1), 0.97 * hair)
    if look["beard"] > 0:
        edge = np.interp(away, [0, 20, 35, 60, 76, 84], [86, 84, 70, 52, 20, 0]) + 0.8 * ragged
        beard = smoothstep(y - edge, -3, 5) * (away < 90) * (1 - smoothstep(y - _jaw_height(away).astype(np.float32), 8, 22))
        if look["moustache"]:
            lip_line = np.interp(ax, [0, 6, 16, 26, 34], [62, 61, 64, 72, 80])
            beard = np.maximum(beard, smoothstep(lip_line - y, -0.5, 1.5) * smoothstep(y, 55.5, 58.5) * (ax < 33))
        lips = (y > np.interp(ax, [0, 6, 16, 26], [62, 61, 64, 71])) & (y < np.interp(ax, [0, 16, 26], [84, 80, 71]))
        lips &= ax < 26
        texture = 0.7 + 0.3 * noise(rng, x.shape, (200, 180))
        image = _blend(image, look["hair"] * 0.85, np.clip(beard * texture * look["beard"], 0, 1) * ~lips)
    return image


def _paint_ball(rng, look) -> np.ndarray:
    """An eyeball from its pole: (EYE_PATCH, EYE_PATCH, 3)."""
    across = (np.arange(EYE_PATCH) / (EYE_PATCH - 1) - 0.5) * 150
    radius = np.hypot(across[None], across[:, None])
    image = np.tile(np.array([0.86, 0.83, 0.80], np.float32), (EYE_PATCH, EYE_PATCH, 1))
    image = _blend(image, [0.62, 0.40, 0.36], smoothstep(radius, 32, 62))
    iris = look["iris"] * (1 + 0.3 * smoothstep(radius, 10, 20))[..., None]
    iris = iris + 0.05 * noise(rng, radius.shape, (20, 20))[..., None]
    image = image + (iris - image) * (1 - smoothstep(radius, 22, 25))[..., None]
    image = _blend(image, look["iris"] * 0.4, np.exp(-(((radius - 23) / 2.2) ** 2)))
    return _blend(image, [0.02, 0.02, 0.02], 1 - smoothstep(radius, 8.5, 11)).astype(np.float32)


def _paint_teeth(rng) -> np.ndarray:
    """Teeth before the dark of the mouth: (MOUTH_PATCH, MOUTH_PATCH, 3); across 48 mm, down 28 mm from y = 58."""
    grid = np.arange(MOUTH_PATCH) / (MOUTH_PATCH - 1)
    x, y = np.meshgrid(grid * 48 - 24, grid * 28 + 58)
    image = np.tile(np.array([0.20, 0.06, 0.06], np.float32), (MOUTH_PATCH, MOUTH_PATCH, 1))
    rows = np.maximum(smoothstep(71.8 - 0.004 * x**2 - y, 0, 0.8), 0.9 * smoothstep(y, 75.0, 76.0) * (y < 82))
    gaps = 1 - 0.35 * np.abs(np.cos(np.pi * x / 7.5)) ** 14
    shade = rng.uniform(0.78, 0.92) * np.array([1.0, 0.97, 0.90]) * (gaps * (1 - (x / 30) ** 2))[..., None]
    image = image + (shade - image) * rows[..., None]
    return image.astype(np.float32)


# --- expression ---------------------------------------------------------------------------------------------


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) by degrees: positive yaw turns the face to the picture's right, pitch down, roll clockwise as seen."""
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians([yaw, pitch, roll])), np.sin(np.radians([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ about_y @ about_x


def express(head: Head, face: dict) -> np.ndarray:
    """Vertices (V, 3) mm of a head with an expression, not yet turned.

    ``face`` gives strengths near [0, 1] for the basis' names, ``jaw`` in degrees, and the gaze in degrees right and down.
    """
    mesh = canonical_mesh()
    vertices, skin = head.vertices.copy(), mesh.slices["head"]
    for name, field in mesh.basis.items():
        vertices[skin] += face.get(name, 0.0) * head.gaps.get(name, 1.0) * field
    hinge = np.array([0, 12.0, 8.0])
    turned = (vertices - hinge) @ rotation(0, face["jaw"], 0).T + hinge
    vertices += mesh.jaw[:, None] * (turned - vertices)
    gaze = rotation(face["gaze_x"], face["gaze_y"], 0)
    for centre, part in zip(head.eyes, ("ball_left", "ball_right")):
        ball = mesh.slices[part]
        vertices[ball] = centre + head.ball * mesh.vertices[ball] @ gaze.T
        # Lids slide over the ball: what would sink into it comes forward to just before its surface.
        near = np.flatnonzero(np.abs(head.vertices[skin] - centre).max(1) < BALL + 12)
        across = ((vertices[near, :2] - centre[:2]) ** 2).sum(1)
        left = (BALL * head.ball + 0.8) ** 2 - across
        cover = centre[2] + np.sqrt(np.maximum(left, 0))
        vertices[near, 2] = np.where(left > 0, np.maximum(vertices[near, 2], cover), vertices[near, 2])
    return vertices


def landmarks(vertices: np.ndarray) -> np.ndarray:
    """The 68 landmarks (68, C) on vertices (V, C)."""
    mesh = canonical_mesh()
    return np.einsum("kij,ki->kj", vertices[mesh.faces[mesh.landmark_faces]], mesh.landmark_weights)
