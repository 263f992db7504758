"""What a rendered head wears and how its skin is painted: colours, hair, and one texture atlas, all analytic."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from tsal.synthetic.mesh import (
    EYE,
    EYE_HALF,
    EYE_PATCH,
    MOUTH_PATCH,
    SWATCH,
    TEXELS,
    bump,
    canonical_mesh,
    eye_lids,
    jaw_height,
    lip_rims,
    smoothstep,
)


def draw_look(rng: np.random.Generator) -> dict:
    """Colours and wear of a person; colours are sRGB in [0, 1]."""
    tone = rng.beta(1.3, 1.5)
    skin = np.array(
        [[0.95, 0.79, 0.70], [0.88, 0.68, 0.55], [0.76, 0.54, 0.41], [0.56, 0.37, 0.26], [0.36, 0.23, 0.17]]
    )
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
        "lip": rng.uniform(0.15, 0.75) * (0.5 if bearded else 1.0),
        "bald": rng.random() < 0.12,
        "line": rng.normal(-64, 6),
        "peak": rng.uniform(-5, 12),
        "long": not bearded and rng.random() < 0.5,
        "fringe": rng.random() < 0.2,
        "volume": rng.uniform(3, 13),
        "phase": rng.uniform(0, 6),
        "glasses": rng.random() < 0.2,
        "beard": rng.uniform(0.3, 1.0) if bearded else 0.0,
        "moustache": rng.random() < 0.8,
        "brow": rng.uniform(2.0, 3.9),
        "brow_strength": rng.uniform(0.45, 0.95),
        "age": rng.beta(1.2, 2.5),
        "shirt": np.clip(rng.uniform(0.08, 0.85) + rng.normal(0, 0.13, 3), 0.03, 0.95),
        "frame": rng.choice([0.03, 0.1, 0.3]) * rng.uniform(0.6, 1.4, 3),
    }


def hair_mask(angle, y, look) -> np.ndarray:
    """Share of hair in [0, 1] at absolute angles (degrees) and heights (mm)."""
    if look["bald"]:
        return np.zeros_like(y)
    line = look["line"] + (26 if look["fringe"] else 0)
    low = 170.0
    behind = [low] * 5 if look["long"] else [8, -8, 30, 80, 95]
    knots = [line + look["peak"] * 0.3, line - 2, line + 6, -22, *behind]
    edge = np.interp(angle, [0, 18, 38, 60, 76, 90, 112, 135, 180], knots)
    return smoothstep(edge - y, -3.5, 4.5)


def noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise of unit deviation, ``cells`` rows and columns of independent values."""
    return cv2.resize(rng.normal(size=cells).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=1)
def _texel_places() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Canonical x (mm), y (mm) and angle (degrees) of every texel of the head's texture."""
    mesh = canonical_mesh()
    (rows, columns), head = mesh.shape, mesh.slices["head"]
    fields = np.stack([mesh.vertices[head, 0], mesh.vertices[head, 1], np.degrees(mesh.theta)], -1).reshape(
        rows, columns, 3
    )
    column, row = np.meshgrid(
        np.arange((columns - 1) * TEXELS + 1) / TEXELS, np.arange((rows - 1) * TEXELS + 1) / TEXELS
    )
    places = cv2.remap(fields.astype(np.float32), column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    return places[..., 0], places[..., 1], places[..., 2]


def _blend(image, colour, share):
    return image + (np.asarray(colour, np.float32) - image) * share[..., None]


def paint(rng: np.random.Generator, look: dict) -> tuple[np.ndarray, np.ndarray]:
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
    atlas[top : top + MOUTH_PATCH, left : left + MOUTH_PATCH], shine[top : top + MOUTH_PATCH, left:] = (
        _paint_teeth(rng),
        0.6,
    )
    top += MOUTH_PATCH + 8
    atlas[top : top + SWATCH, left : left + SWATCH], shine[top : top + SWATCH, left:] = look["frame"], 2.0
    return np.clip(atlas, 0.01, 1) ** np.float32(2.2), shine


def _paint_face(rng, look, image) -> np.ndarray:
    """Shadows, folds, lips, eyes' surround, nostrils and brows."""
    x, y, angle = _texel_places()
    ax, front = np.abs(x), np.abs(angle) < 80
    dark = (
        0.30 * bump(ax, y, (20, 0), (9, 10))
        + 0.15 * bump(ax, y, (32, 10), (15, 7))
        + 0.22 * bump(ax, y, (16, 44), (4, 7))
    )
    dark += 0.26 * bump(ax, y, (0, 57), (12, 3.0))
    dark += 0.22 * bump(ax, y, (0, 88), (15, 3.5)) + 0.12 * bump(ax, y, (9, 20), (4, 16))
    fold = np.interp(y, [44, 52, 62, 72], [17, 20, 26, 30])
    beside_mouth = smoothstep(y, 46, 52) * (1 - smoothstep(y, 66, 76))
    dark += (0.08 + 0.22 * look["age"]) * np.exp(-(((ax - fold) / 2.2) ** 2)) * beside_mouth
    wrinkle = np.sin((y + 0.004 * x**2) / 9 * 2 * np.pi) ** 6 * bump(ax, y, (0, -45), (40, 16))
    dark += 0.16 * look["age"] * wrinkle * front
    under = smoothstep(y - jaw_height(np.abs(angle)).astype(np.float32), 0, 10)
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
    brow = (
        smoothstep(1.5 - np.abs(y - middle) / thick, 0, 1.0) * smoothstep(ax, 10.5, 15) * (1 - smoothstep(ax, 57, 64))
    )
    return _blend(image, look["hair"] * 0.65, np.clip(brow * hairs * look["brow_strength"], 0, 1) * front)


def _paint_hair(rng, look, image) -> np.ndarray:
    """The hair of head and beard."""
    x, y, angle = _texel_places()
    ax, away = np.abs(x), np.abs(angle)
    ragged = 2.2 * noise(rng, x.shape, (25, 40)) + 2.5 * noise(rng, x.shape, (25, 170))
    streaks = 1 + 0.22 * noise(rng, x.shape, (9, 150)) + 0.12 * noise(rng, x.shape, (25, 300))
    hair = hair_mask(away, y + ragged, look)
    image = _blend(image, np.clip(look["hair"] * streaks[..., None], 0, 1), 0.97 * hair)
    if look["beard"] > 0:
        edge = np.interp(away, [0, 20, 35, 60, 76, 84], [86, 84, 70, 52, 20, 0]) + 0.8 * ragged
        beard = (
            smoothstep(y - edge, -3, 5) * (away < 90) * (1 - smoothstep(y - jaw_height(away).astype(np.float32), 8, 22))
        )
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
