"""What the indices of landmarks mean: the schemes that come along, files of a user's own, and their errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tsal.data.lists import find_list, read_list
from tsal.data.points import read_points
from tsal.data.views import FaceStore, plain_affine
from tsal.geometry import apply_affine
from tsal.schemes import Scheme, centre_point, generic_scheme, get_scheme, scheme_from_dict, scheme_names
from tsal.utils.errors import ConfigError
from tsal.utils.paths import REPOSITORY, SCHEME_FOLDER

EVERY = pytest.mark.parametrize("scheme", [get_scheme(name) for name in scheme_names()], ids=lambda s: s.name)


# --- the schemes that come along ---


def test_these_schemes_come_along():
    assert scheme_names() == ["5", "19", "29", "49", "51", "68", "98", "106"]


def test_a_file_whose_name_is_no_number_is_a_scheme_as_well(tmp_path, monkeypatch):
    for name in ("106", "mine", "5"):
        (tmp_path / f"{name}.yaml").write_text("points: 7\n")
    monkeypatch.setattr("tsal.schemes.SCHEME_FOLDER", tmp_path)
    assert scheme_names() == ["5", "106", "mine"] and get_scheme("mine").points == 7


@EVERY
def test_a_scheme_is_sane(scheme):
    """Mirroring twice changes nothing; eyes, centre and lines are where a mirror wants them."""
    flip = np.array(scheme.flip)
    assert scheme.name == str(scheme.points) and (flip[flip] == np.arange(scheme.points)).all()
    assert len(set(scheme.names)) == scheme.points
    assert flip[scheme.centre] == scheme.centre >= 0
    assert scheme.ocular is None or flip[scheme.ocular[0]] == scheme.ocular[1] != scheme.ocular[0]
    assert sorted(flip[list(scheme.pupil[0])]) == sorted(scheme.pupil[1]) and not set(scheme.pupil[0]) & set(
        scheme.pupil[1]
    )


def edges(indices, closed: bool) -> set[frozenset]:
    ends = list(zip(indices, indices[1:])) + [(indices[-1], indices[0])] * closed
    return {frozenset(pair) for pair in ends}


@EVERY
def test_the_lines_mirror_onto_lines(scheme):
    lines = {label: edges(indices, closed) for label, indices, closed in scheme.lines}
    swap = str.maketrans({"<": ">", ">": "<"})
    for label, drawn in lines.items():
        partner = (
            label.replace("left", "<").replace("right", ">").translate(swap).replace("<", "left").replace(">", "right")
        )
        assert {frozenset(scheme.flip[i] for i in edge) for edge in drawn} == lines[partner], label


@EVERY
def test_every_landmark_is_on_a_line(scheme):
    drawn = [i for _, indices, _ in scheme.lines for i in indices]
    if scheme.name != "5":  # has none
        assert set(drawn) == set(range(scheme.points))
    if scheme.name != "29":  # the lips share the mouth's corners
        assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("68", [(0, 16), (7, 9), (17, 26), (31, 35), (36, 45), (39, 42), (41, 46), (48, 54), (60, 64), (67, 65)]),
        ("51", [(0, 9), (14, 18), (19, 28), (22, 25), (31, 37), (43, 47)]),
        ("49", [(0, 9), (14, 18), (19, 28), (22, 25), (31, 37), (43, 45), (48, 46)]),
        ("29", [(0, 1), (2, 3), (4, 6), (5, 7), (8, 9), (10, 11), (12, 14), (13, 15), (16, 17), (18, 19), (22, 23)]),
        ("19", [(0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9), (12, 14), (15, 17)]),
        (
            "98",
            [
                (0, 32),
                (15, 17),
                (33, 46),
                (38, 50),
                (55, 59),
                (60, 72),
                (64, 68),
                (67, 73),
                (76, 82),
                (87, 83),
                (95, 93),
            ],
        ),
        (
            "106",
            [
                (0, 32),
                (33, 46),
                (41, 47),
                (55, 65),
                (66, 79),
                (70, 75),
                (73, 80),
                (74, 83),
                (84, 90),
                (91, 95),
                (101, 103),
            ],
        ),
        ("5", [(0, 1), (3, 4)]),
    ],
)
def test_landmarks_mirror_in_the_releases_pairs(name, pairs):
    flip = get_scheme(name).flip
    assert all(flip[a] == b and flip[b] == a for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("68", [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]),
        ("51", [10, 11, 12, 13, 16, 34, 40, 45, 49]),
        ("49", [10, 11, 12, 13, 16, 34, 40, 44, 47]),
        ("29", [20, 21, 24, 25, 26, 27, 28]),
        ("19", [13, 16, 18]),
        ("98", [16, 51, 52, 53, 54, 57, 79, 85, 90, 94]),
        ("106", [16, 51, 52, 53, 54, 60, 87, 93, 98, 102]),
        ("5", [2]),
    ],
)
def test_the_middle_line_of_the_face_stays(name, alone):
    flip = get_scheme(name).flip
    assert [i for i, j in enumerate(flip) if i == j] == alone


def test_the_protocols_eye_corners():
    corners = {
        "68": (36, 45),
        "51": (19, 28),
        "49": (19, 28),
        "98": (60, 72),
        "106": (66, 79),
        "29": (8, 9),
        "19": (6, 11),
    }
    assert {name: get_scheme(name).ocular for name in scheme_names()} == corners | {"5": None}


def test_the_eyes_of_each_scheme_give_its_pupils():
    assert get_scheme("68").pupil == (tuple(range(36, 42)), tuple(range(42, 48)))
    pupils = {"98": (96, 97), "106": (104, 105), "29": (16, 17), "19": (7, 10), "5": (0, 1)}
    assert all(get_scheme(name).pupil == ((left,), (right,)) for name, (left, right) in pupils.items())


@pytest.mark.parametrize(
    ("name", "keep"), [("51", range(17, 68)), ("49", [i for i in range(17, 68) if i not in (60, 64)])]
)
def test_a_subset_is_the_68_landmarks_renumbered(name, keep):
    part, whole, keep = get_scheme(name), get_scheme("68"), list(keep)
    assert len(keep) == part.points and keep[part.centre] == whole.centre == 30
    assert [keep[part.flip[i]] for i in range(part.points)] == [whole.flip[i] for i in keep]
    assert [[keep[i] for i in eye] for eye in part.pupil] == [list(eye) for eye in whole.pupil]
    assert list(part.names) == [whole.names[i] for i in keep]
    lines = {label: ([keep[i] for i in indices], closed) for label, indices, closed in part.lines}
    assert lines == {
        label: ([i for i in indices if i in keep], closed) for label, indices, closed in whole.lines if label != "jaw"
    }


def test_a_subset_reads_the_files_of_what_it_is_a_part_of(tmp_path):
    assert get_scheme("51").also_read == ((68, tuple(range(17, 68))),) and get_scheme("68").also_read == ()
    whole = write(tmp_path, "points: 4\nalso_read: {9: 5 4 8 0}", "whole.yaml")
    assert get_scheme(whole).also_read == ((9, (5, 4, 8, 0)),)
    part = get_scheme(write(tmp_path, f"subset_of: {whole}\nkeep: [3, 1]", "part.yaml"))
    assert part.also_read == ((4, (3, 1)), (9, (0, 4)))
    rest = get_scheme(write(tmp_path, f"subset_of: {tmp_path / 'part.yaml'}\nkeep: [1]", "rest.yaml"))
    assert rest.also_read == ((2, (1,)), (4, (1,)), (9, (4,)))
    assert scheme_from_dict(json.loads(json.dumps(part.to_dict())), part.name, "run") == part


def test_landmarks_are_named_after_their_lines():
    names = get_scheme("68").names
    assert (names[0], names[36], names[41], names[67]) == ("jaw 1", "left eye 1", "left eye 6", "inner lip 8")
    assert get_scheme("29").names[28] == "chin" and get_scheme("5").names[3] == "left mouth corner"


@EVERY
def test_a_scheme_survives_being_written_out(scheme):
    assert scheme_from_dict(json.loads(json.dumps(scheme.to_dict())), scheme.name, "run") == scheme


@EVERY
def test_a_scheme_s_file_says_where_its_order_comes_from(scheme):
    assert (SCHEME_FOLDER / f"{scheme.name}.yaml").read_text().startswith("# ")


def test_schemes_do_without_torch():
    code = "import sys, tsal.schemes as s\ns.get_scheme('68')\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True)


def test_on_real_faces_the_lines_of_68_are_short_and_its_sides_are_sides(realdata):
    """Neighbours on a line are near each other, and the "left" ones left of their partners (mean over 100 faces)."""
    scheme = get_scheme("68")
    store = FaceStore(realdata, scheme, 96, 1.35, 1)
    faces = read_list(find_list(realdata, "semi/300W.val-150.GTB"))[:100]
    shape = np.mean([apply_affine(plain_affine([f], 96, 1.35), store.points(f)[0]) for f in faces], 0)
    for label, indices, closed in scheme.lines:
        joined = shape[list(indices + indices[:closed])]
        assert np.linalg.norm(np.diff(joined, axis=0), axis=1).max() < 12, label
        if label.startswith("left"):
            assert (shape[list(indices), 0] < shape[[scheme.flip[i] for i in indices], 0]).all(), label
    assert shape[36, 0] == shape[36:42, 0].min() and shape[45, 0] == shape[42:48, 0].max()  # outer corners


# --- numbers and files of one's own ---


def test_any_other_number_of_landmarks_is_a_scheme_that_assumes_nothing():
    scheme = get_scheme("12")
    assert scheme == generic_scheme(12)
    assert (scheme.points, scheme.flip, scheme.centre, scheme.ocular, scheme.lines) == (
        12,
        tuple(range(12)),
        -1,
        None,
        (),
    )


def test_a_file_says_where_the_face_s_box_lies(tmp_path):
    assert get_scheme(write(tmp_path, "points: 2")).box == get_scheme("68").box == (0, 0, 1, 1)
    own = get_scheme(write(tmp_path, "points: 2\nbox: [-1, -0.5, 2, 1.5]"))
    assert own.box == (-1, -0.5, 2, 1.5) == scheme_from_dict(own.to_dict(), "own", "").box
    assert get_scheme(write(tmp_path, "subset_of: '68'\nkeep: 17-67\nbox: [-1, 0, 2, 1]")).box == (-1, 0, 2, 1)


FIVE = [[*range(36, 42)], [*range(42, 48)], [30], [48], [54]]  # eyes, nose and mouth corners of the 68
INNER = [[i] for i in range(17, 68)]


@pytest.mark.parametrize(
    ("name", "parts"), [("5", FIVE), ("51", INNER), ("49", [part for part in INNER if part[0] not in (60, 64)])]
)
def test_the_box_of_a_part_is_that_of_real_faces(realdata, name, parts):
    faces = np.array([read_points(path, 68)[0] for path in sorted((realdata / "300W").rglob("*.pts"))])
    points = np.stack([faces[:, part].mean(1) for part in parts], 1)
    corner, size = points.min(1), np.ptp(points, 1)
    place = np.concatenate([(faces.min(1) - corner) / size, (faces.max(1) - corner) / size], 1)
    assert len(faces) > 1000 and get_scheme(name).box == pytest.approx(np.median(place, 0), abs=0.006)


@pytest.mark.parametrize("name", ["0", "-3", "faces", "68.0", "", "69x", "²"])
def test_a_scheme_that_does_not_exist_is_an_error(name):
    with pytest.raises(
        ConfigError, match="no landmark scheme .*known: 5, 19, 29, 49, 51, 68, 98, 106, any whole number"
    ):
        get_scheme(name)


OWN = """
points: 7
flip: [[0, 3], [1, 2], [5, 6]]
ocular: [0, 3]
pupil: [0-1, 2 3]
lines:
  left eye: 0 1
  right eye: 2, 3
  mouth: [5, 6, closed]
"""


def write(folder, text: str, name: str = "own.yaml") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_file_of_one_s_own_is_read(tmp_path):
    path = write(tmp_path, OWN)
    assert get_scheme(path) == Scheme(
        path,
        7,
        flip=(3, 2, 1, 0, 4, 6, 5),
        ocular=(0, 3),
        pupil=((0, 1), (2, 3)),
        lines=(("left eye", (0, 1), False), ("right eye", (2, 3), False), ("mouth", (5, 6), True)),
        names=("left eye 1", "left eye 2", "right eye 1", "right eye 2", "landmark 4", "mouth 1", "mouth 2"),
    )


def test_the_number_of_landmarks_is_enough(tmp_path):
    scheme = get_scheme(write(tmp_path, "points: 3"))
    assert (scheme.flip, scheme.centre, scheme.names) == ((0, 1, 2), -1, ("landmark 0", "landmark 1", "landmark 2"))


def test_a_file_is_found_from_the_working_directory_and_from_the_repository(tmp_path, monkeypatch):
    write(tmp_path, OWN)
    monkeypatch.chdir(tmp_path)
    assert get_scheme("own.yaml").points == 7
    assert get_scheme("configs/schemes/98.yaml").points == 98
    with pytest.raises(ConfigError, match="other.yaml: no such landmark scheme"):
        get_scheme("other.yaml")


def test_a_part_of_a_file_of_one_s_own_loses_what_it_does_not_keep(tmp_path):
    own = write(tmp_path, OWN)
    part = get_scheme(write(tmp_path, f"subset_of: {own}\nkeep: [6, 5, 4, 0, 3]", "part.yaml"))
    assert (part.points, part.flip, part.ocular, part.pupil) == (5, (1, 0, 2, 4, 3), (3, 4), None)
    assert part.lines == (("left eye", (3,), False), ("right eye", (4,), False), ("mouth", (1, 0), True))
    assert part.names == ("mouth 2", "mouth 1", "landmark 4", "left eye 1", "right eye 2")


MORE = OWN + "centre: 4\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a landmark scheme; want keys and values"),
        ("- 68\n- 51", "not a landmark scheme"),
        ("points: [3", "not valid YAML: .*line 1"),
        ("points: 2001-02-31", "not valid YAML"),
        ("points: 7\npoints: 8", "not valid YAML: the key 'points' is given twice"),
        (OWN + "  mouth: 4", "not valid YAML: the key 'mouth' is given twice"),
        (MORE.replace("ocular", "oculars"), r"oculars: unknown key \(did you mean 'ocular'\?\)"),
        (MORE.replace("points: 7", ""), "points: missing"),
        ("points: seven", "points: 'seven'; want the number"),
        ("points: 0", "points: 0; want the number"),
        ("points: true", "points: True; want the number"),
        (MORE.replace("centre: 4", "centre: 7"), r"centre: 7 is none of the 7 landmarks \(0-6\)"),
        (MORE.replace("centre: 4", "centre: -1"), "centre: '-1' is no landmark"),
        (MORE.replace("centre: 4", "centre: 3-4"), "centre: '3-4' are 2 landmarks; want 1"),
        (MORE.replace("centre: 4", "centre: 5"), "centre: 5 is no landmark of the middle line: flip pairs it with 6"),
        (MORE.replace("[5, 6]]", "[5, 7]]"), "flip: 7 is none of the 7 landmarks"),
        (MORE.replace("[5, 6]]", "[2, 6]]"), "flip: 2 is in two pairs"),
        (MORE.replace("[5, 6]]", "[5, 6], [5, 6]]"), "flip: 5 is in two pairs"),
        (MORE.replace("[5, 6]]", "[4, 5, 6]]"), r"flip: \[4, 5, 6\] is no pair"),
        (MORE.replace("[5, 6]]", "5-6]"), "flip: '5-6' is no pair"),
        ("points: 3\nflip: 0", "flip: 0 is no list"),
        (MORE.replace("ocular: [0, 3]", "ocular: [0]"), r"ocular: \[0\] are 1 landmarks; want 2"),
        (MORE.replace("ocular: [0, 3]", "ocular: [0, 2]"), "ocular: 0 and 2 are no pair of flip"),
        (MORE.replace("[0-1, 2 3]", "[0-1]"), "pupil: .*want two groups"),
        (MORE.replace("[0-1, 2 3]", "[0-1, 5-6]"), "pupil: flip does not map one group onto the other"),
        (MORE.replace("[0-1, 2 3]", "[1-0, 2 3]"), "pupil: the range 1-0 goes backwards"),
        (MORE.replace("left eye: 0 1", "left eye: 0 one"), "lines: left eye: 'one' is no landmark"),
        (MORE.replace("left eye: 0 1", "left eye: 0-999999999999"), "lines: left eye: 999999999999 is none of the 7"),
        (MORE.replace("left eye: 0 1", "left eye: 0 1 0"), "lines: left eye: 0 is given twice"),
        (
            MORE.replace("left eye: 0 1", "left eye: closed"),
            r"lines: left eye: \[\] are 0 landmarks; want at least one",
        ),
        (MORE.replace("left eye: 0 1", "left eye:"), "lines: left eye: 'None' is no landmark"),
        ("points: 3\nlines: [0-2]", "lines: want a name and landmarks"),
        ("points: 3\nnames: [a, b]", "names: 2 names for 3 landmarks"),
        ("points: 3\nnames: [a, b, a]", "names: 'a' is given twice"),
        ("points: 3\nnames: [a, b, 3]", "names: want a list of texts"),
        ("points: 3\nalso_read: 9", "also_read: want numbers of points"),
        ("points: 3\nalso_read: {nine: 0-2}", "also_read: 'nine' is no landmark"),
        ("points: 3\nalso_read: {3: 0-2}", "also_read: 3: is the number of points itself"),
        ("points: 3\nalso_read: {9: 0-3}", "also_read: 9: '0-3' are 4 landmarks; want 3"),
        ("points: 3\nalso_read: {9: 7-9}", "also_read: 9: 9 is none of the 9 landmarks"),
        ("points: 3\nbox: 1", "box: 1; want four numbers"),
        ("points: 3\nbox: [0, 0, 1]", r"box: \[0, 0, 1\]; want four numbers"),
        ("points: 3\nbox: [0, 0, 1, .inf]", r"box: \[0, 0, 1, inf\]; want four numbers"),
        ("points: 3\nbox: [1, 0, 1, 2]", r"box: \[1, 0, 1, 2\]; want four numbers, x1 < x2"),
        ("points: 3\nbox: [0, 3, 1, 2]", r"box: \[0, 3, 1, 2\]; want four numbers, x1 < x2"),
        ("subset_of: '68'\nkeep: 17-67\nbox: [0, 0, 1]", r"box: \[0, 0, 1\]; want four numbers"),
        ("subset_of: '68'", "keep: missing"),
        ("keep: 0-3", "subset_of: missing"),
        ("subset_of: 68\nkeep: 17-68", "keep: 68 is none of the 68"),
        ("subset_of: 68\nkeep: 0-3", "keep: 0 is kept without its mirror image 16"),
        ("subset_of: 68\nkeep: 0-67\npoints: 68", "points: comes from the scheme of subset_of"),
        ("subset_of: 69x\nkeep: 0-3", "subset_of: no landmark scheme '69x'"),
        ("subset_of: other.yaml\nkeep: 0-3", "subset_of: other.yaml: no such landmark scheme"),
    ],
)
def test_a_wrong_file_is_reported_in_one_line_with_file_and_key(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=says) as error:
        get_scheme(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_is_no_text_is_reported(tmp_path):
    (tmp_path / "own.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError, match="own.yaml: cannot read the scheme: it is no text"):
        get_scheme(str(tmp_path / "own.yaml"))


def test_schemes_that_are_parts_of_each_other_are_reported(tmp_path):
    first = write(tmp_path, f"subset_of: {tmp_path / 'b.yaml'}\nkeep: 0-3", "a.yaml")
    write(tmp_path, f"subset_of: {first}\nkeep: 0-3", "b.yaml")
    with pytest.raises(ConfigError, match="subset_of: goes in a circle: a.yaml -> b.yaml -> a.yaml"):
        get_scheme(first)


@pytest.mark.parametrize("flip", [(0, 1), (1, 2, 0), (0, 0, 2)])
def test_a_flip_that_does_not_pair_the_landmarks_is_an_error(flip):
    with pytest.raises(ConfigError, match="flip must pair"):
        Scheme("bad", 3, flip=flip)


# --- the centre ---

NOSE = Scheme("nose", 3, flip=(0, 1, 2), centre=1)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_the_face_centre_is_the_centre_landmark_or_the_mean_of_the_visible_ones(kind):
    points = kind([[[0.0, 0.0], [4.0, 2.0], [100.0, 100.0]]])
    visible = kind([[True, True, False]])
    assert centre_point(points, NOSE, visible).tolist() == [[4.0, 2.0]] == centre_point(points, NOSE).tolist()
    assert centre_point(points, generic_scheme(3), visible).tolist() == [[2.0, 1.0]]
    assert centre_point(points[:, :2], generic_scheme(2)).tolist() == [[2.0, 1.0]]
    assert centre_point(points, generic_scheme(3), ~visible | visible).tolist()[0][0] == pytest.approx(104 / 3)
    assert points.tolist()[0][2] == [100, 100]


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, 1e6])
def test_the_value_of_a_hidden_landmark_is_never_in_the_centre(kind, rubbish):
    points = kind([[[6.0, 2.0], [rubbish, rubbish], [2.0, 4.0]]] * 2)
    visible = kind([[True, False, True], [False, False, False]])
    assert centre_point(points, NOSE, visible).tolist() == [[0.0, 0.0], [0.0, 0.0]]  # nobody knows
    assert centre_point(points[:1], generic_scheme(3), visible[:1]).tolist() == [[4.0, 3.0]]


def test_a_face_without_a_visible_landmark_has_a_finite_centre():
    assert centre_point(torch.ones(1, 3, 2), generic_scheme(3), torch.zeros(1, 3, dtype=torch.bool)).tolist() == [
        [0.0, 0.0]
    ]
