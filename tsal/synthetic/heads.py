"""Heads of a parametric family: one person's shape and skin (see ``mesh`` and ``skin``), with an expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tsal.synthetic.mesh import BALL, bump, canonical_mesh, landmarks, smoothstep
from tsal.synthetic.skin import draw_look, hair_mask, paint

# --- identity ---


@dataclass(frozen=True)
class Head:
    """One person: the resting shape, the skin, and what is worn."""

    vertices: np.ndarray  # (V, 3) mm
    eyes: np.ndarray  # (2, 3) mm
    ball: float  # scale of the eyeballs
    gaps: dict  # the resting gap of "blink" (lids) and "shut" (lips), over the canonical one
    faces: np.ndarray  # (F,) bool: triangles in use (glasses or not)
    albedo: np.ndarray  # (H, W, 3) float32 texture, linear light
    gloss: np.ndarray  # (H, W) float32


def make_head(rng: np.random.Generator) -> Head:
    """A random person."""
    mesh = canonical_mesh()
    warp = _identity_warp(rng)
    head, look = mesh.slices["head"], draw_look(rng)
    canonical = mesh.vertices[head]
    vertices = mesh.vertices.copy()
    for part in ("head", "teeth", "glasses"):
        vertices[mesh.slices[part]] = warp(mesh.vertices[mesh.slices[part]])
    hair = hair_mask(np.abs(np.degrees(mesh.theta)), canonical[:, 1], look)
    outward = canonical - [0, -5, -5]
    outward[:, 1] *= canonical[:, 1] < 0  # hair that hangs stands off to the side
    outward /= np.linalg.norm(outward, axis=1, keepdims=True) + 1e-6
    lump = 1 + 0.25 * np.sin(canonical[:, 0] / 13 + look["phase"]) * np.sin(canonical[:, 1] / 17 + canonical[:, 2] / 15)
    vertices[head] += outward * (hair * lump * look["volume"])[:, None]
    faces = np.ones(len(mesh.faces), bool)
    if not look["glasses"]:
        faces[(mesh.faces >= mesh.slices["glasses"].start).all(1)] = False
    albedo, gloss = paint(rng, look)
    eyes = warp(mesh.eyes)
    ball = float(np.clip((eyes[1, 0] - eyes[0, 0]) / 64, 0.9, 1.1))
    own, usual = landmarks(vertices)[:, 1], landmarks(mesh.vertices)[:, 1]
    pairs = {"blink": ([41, 40, 47, 46], [37, 38, 43, 44]), "shut": ([65, 66, 67], [63, 62, 61])}
    gaps = {
        name: float((own[low] - own[top]).mean() / (usual[low] - usual[top]).mean())
        for name, (low, top) in pairs.items()
    }
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


# --- expression ---


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) by degrees: positive yaw turns the face to the image's right, pitch down, roll clockwise as
    seen.
    """
    (cy, cp, cr), (sy, sp, sr) = np.cos(np.radians([yaw, pitch, roll])), np.sin(np.radians([yaw, pitch, roll]))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    return np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ about_y @ about_x


def express(head: Head, face: dict) -> np.ndarray:
    """Vertices (V, 3) mm of a head with an expression, not yet turned.

    ``face`` gives strengths near [0, 1] for the basis' names, ``jaw`` in degrees, and the gaze in degrees right and
    down.
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
