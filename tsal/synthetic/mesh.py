"""The canonical mesh of a parametric 3-D head, analytic: its surface, its 68 landmarks, what its expressions move.

Head space is millimetres: x right in the image, y down, z towards the camera, the eyes at y = 2.5, the ears near z =
0. The surface is a grid of angles about the vertical axis by heights, so a grid vertex is also a place in the texture.
In the canonical mesh the eyes are open and the lips apart: the inside of an eye and of the mouth is a hole in the
surface, whose rim the expressions move. A surface point (and so a landmark) is a triangle and three weights, whatever
the head does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

TEXELS = 3  # texels between neighbouring grid vertices
EYE = np.array([32.0, 2.5])  # centre of the eye at the image's right
EYE_HALF, MOUTH_HALF = 14.0, 22.0
EYE_MID, MOUTH_MID = 3.3, 71.0  # heights of the corners of eyes and mouth
BALL = 15.5  # radius of an eyeball
HOLE_DEPTH = 30.0  # the hole's floor lies this far behind the surface: nothing is ever seen through a head
EYE_PATCH, MOUTH_PATCH, SWATCH = 64, 64, 16  # sides of the small textures right of the head's

_ROWS = (
    (-115, -35, 14),
    (-35, -9, 9),
    (-9, 13, 18),
    (13, 40, 9),
    (40, 60, 15),
    (60, 88, 22),
    (88, 124, 13),
    (124, 210, 9),
    (210, 330, 3),
)
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


def jaw_height(degrees):
    """Height of the edge under which the face turns to the neck, by the absolute angle."""
    return np.interp(
        degrees, [0, 17, 33, 48, 62, 74, 80, 95, 120, 180], [114, 111, 102.5, 90.5, 74.5, 57.5, 49, 42, 60, 70]
    )


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
    under = smoothstep(y - jaw_height(np.abs(np.degrees(theta))), -3.5, 14.0)
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
    mouth = (
        6.5 * bump(ax, y, (0, 72), (27, 19)) - 1.5 * bump(ax, y, (0, 58), (4, 5)) - 2 * bump(ax, y, (27, 71), (5, 6))
    )
    lips = 3 * bump(ax, y, (0, 66), (19, 3.8)) + 4 * bump(ax, y, (0, 78), (17, 4.5)) - 4 * bump(ax, y, (0, 88), (18, 5))
    chin = 6 * bump(ax, y, (0, 101), (19, 10))
    return nose + eyes + brow + cheek + mouth + lips + chin


@dataclass(frozen=True)
class Mesh:
    """The canonical mesh of head, teeth, eyeballs and glasses: V vertices, N of the head's grid, and F triangles."""

    vertices: np.ndarray  # (V, 3) mm; an eyeball's are offsets from its centre
    faces: np.ndarray  # (F, 3)
    texels: np.ndarray  # (V, 2) place in the texture atlas
    two_sided: np.ndarray  # (F,) bool
    holed: np.ndarray  # (F,) bool: triangles that may hold a hole
    shape: tuple[int, int]  # rows and columns of the head's grid
    theta: np.ndarray  # (N,) angle of the head's vertices
    slices: dict  # name of a part -> slice of its vertices
    eyes: np.ndarray  # (2, 3) centres of the eyeballs
    landmark_faces: np.ndarray  # (68,)
    landmark_weights: np.ndarray  # (68, 3)
    basis: dict  # name of an expression -> (N, 3) mm at strength one
    jaw: np.ndarray  # (V,) how much a vertex follows the lower jaw
    neck: np.ndarray  # (V,) 0 for the head to 1 for the shoulders


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
    # (K, F, 3)
    weights = np.stack([_cross(b - p, c - p), _cross(c - p, a - p), _cross(a - p, b - p)], -1) / area[:, None]
    face = weights.min(-1).argmax(1)
    chosen = weights[np.arange(len(places)), face]
    assert (chosen > -1e-6).all(), "a landmark lies outside the canonical surface"
    return face, chosen


def _axis(pieces) -> np.ndarray:
    """Grid positions from (start, end, steps) pieces."""
    return np.concatenate(
        [np.linspace(low, high, steps, endpoint=False) for low, high, steps in pieces] + [[pieces[-1][1]]]
    )


def _expressions(x, y, front) -> dict:
    """Displacement fields (N, 3) mm of the head's vertices at frontal canonical places, each at strength one."""
    ax, side, none = np.abs(x), np.sign(x), np.zeros_like(x)
    corner, cheek = bump(ax, y, (26, 71), (14, 12)), bump(ax, y, (44, 42), (16, 14))
    upper, lower = eye_lids(x)
    # A lid follows its rim fully at the rim and not at all 11 mm away. Inside a hole the field only has to be flat by
    # the rims, so that the triangles that hold a rim follow it: the hole's floor lies behind whatever it folds over.
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
    """Vertices (G, 3) mm and triangles of a pair of glasses whose front is at depth z."""
    vertices, faces, count = [], [], 0
    turn = np.linspace(0, 2 * np.pi, 29)
    squared = (np.abs(np.cos(turn)) ** 3 + np.abs(np.sin(turn)) ** 3) ** (-1 / 3)  # between a circle and a square
    ring = np.stack([np.cos(turn), np.sin(turn)], -1) * squared[:, None]
    strips = []
    for side in (-1, 1):
        middle = np.array([side * 33, 4])
        strips.append(
            [np.column_stack([middle + ring * radii, np.full(29, z)]) for radii in ([25.5, 19.5], [22.3, 16.3])]
        )
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

    # The lower jaw: everything under the mouth line in front, fading to the ears and down the neck; the lips part
    # sharply.
    band = 3 + 26 * smoothstep(np.abs(x), 17, 55)
    jaw = smoothstep((y - MOUTH_MID) / band, -1, 1) * smoothstep(z, -5, 35)
    jaw *= 1 - smoothstep(y - jaw_height(np.abs(angle)), 4, 34)
    vertices = np.concatenate([head, teeth, ball, ball, frame])
    all_jaw = np.concatenate([jaw, smoothstep(teeth[:, 1], 72, 73), np.zeros(len(vertices) - start)])
    neck = np.zeros(len(vertices))
    neck[: len(head)] = smoothstep(y, 114, 200)
    counts = [len(f) for f in faces]
    near_eye = (np.abs(np.abs(x) - EYE[0]) < EYE_HALF + 4) & (np.abs(y - EYE_MID) < 9)
    near_hole = (near_eye | (np.abs(x) < MOUTH_HALF + 4) & (np.abs(y - MOUTH_MID) < 6)) & (front > 0)
    return Mesh(
        vertices=vertices,
        faces=np.concatenate(faces),
        texels=texels.astype(np.float32),
        shape=(rows, columns),
        theta=theta,
        two_sided=np.repeat([False, True, False, False, True], counts),
        holed=np.concatenate([near_hole[faces[0]].any(1), np.zeros(sum(counts[1:]), bool)]),
        slices=slices,
        eyes=np.stack([centre * [-1, 1, 1], centre]),
        landmark_faces=np.concatenate([jaw_faces, facing[inner_faces]]),
        landmark_weights=np.concatenate([jaw_weights, inner_weights]),
        basis=_expressions(x, y, front),
        jaw=all_jaw,
        neck=neck,
    )


def landmarks(vertices: np.ndarray) -> np.ndarray:
    """The 68 landmarks (68, C) on vertices (V, C)."""
    mesh = canonical_mesh()
    return np.einsum("kij,ki->kj", vertices[mesh.faces[mesh.landmark_faces]], mesh.landmark_weights)
