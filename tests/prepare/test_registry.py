"""Builders from the command line and from notebook 01, and runs on what they prepared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from prepared import prepare_in
from releases import coco, landmarks, release_300vw, release_300w, release_aflw, release_youtube, write_image, write_pts
from videos import scene, write_video

from tsal.cli.commands import main
from tsal.prepare import aflw, registry
from tsal.utils.paths import REPOSITORY


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """The folder that datasets are prepared in."""
    return prepare_in(tmp_path / "prepared", monkeypatch)


def make_run(tmp_path, *options: str) -> int:
    return main(["data", "--profile", "smoke", "--run", str(tmp_path / "run"), *options])


RELEASES = {
    "300w": (release_300w, "300W", "300W.train.DET: 6 rows, 6 labelled"),
    "300vw": (release_300vw, "300VW", "300VW.train.GTB: 7 rows, 7 labelled"),
    "youtube": (release_youtube, "YTF", "YTF.val.GTB: 3 rows, 3 labelled"),
}


@pytest.mark.parametrize("builder", RELEASES)
def test_a_release_is_prepared_by_one_command(tmp_path, prepared, capsys, builder):
    write, name, said = RELEASES[builder]
    assert main(["data", builder, str(write(tmp_path / "release"))]) == 0
    out = capsys.readouterr().out
    assert said in out and f"data DATA={name}" in out
    manifest = json.loads((prepared / name / "manifest.json").read_text())
    assert (
        manifest["builder"] == builder and manifest["rejected"] == {"300w": 0, "300vw": 110, "youtube": 24}[builder]
    )  # missing clips; images without a face


def test_aflw_and_coco_take_their_options(tmp_path, prepared, monkeypatch):
    monkeypatch.setattr(aflw, "TRAIN", 4)
    assert main(["data", "aflw", str(release_aflw(tmp_path / "release")), "--name", "wild"]) == 0
    assert (
        main(["data", "photographs", str(coco(tmp_path / "mine")), "--name", "mine", "--points", "5", "--val", "0"])
        == 0
    )
    aflw_manifest, coco_manifest = (
        json.loads((prepared / name / "manifest.json").read_text()) for name in ("wild", "mine")
    )
    aflw_lists = [f"AFLW.{name}.GTB" for name in ("test", "test.front", "train")]
    assert (aflw_manifest["points"], sorted(aflw_manifest["lists"])) == (19, aflw_lists)
    assert coco_manifest["points"] == 5
    assert sorted(coco_manifest["lists"]) == ["train.txt", "unlabelled.txt"]  # --val 0: no val.txt


def test_a_run_takes_lists_of_several_datasets(tmp_path, prepared):
    assert main(["data", "300w", str(release_300w(tmp_path / "a"))]) == 0
    assert main(["data", "300vw", str(release_300vw(tmp_path / "b"))]) == 0
    # the stand-in's video stays a labelled list: its rows are used without their labels
    assert (
        make_run(
            tmp_path,
            "--data",
            "300W",
            "--labelled",
            "300W.train.DET",
            "--unlabelled",
            "300VW:300VW.train.GTB",
            "--evaluate",
            "300W.challenging.DET",
        )
        == 0
    )
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["labelled"] == 6 and manifest["clips"] == 1 and set(manifest["prepared"]) == {"300W", "300VW"}
    frame = manifest["images"]["../300VW/frames/001/000002.jpg"]
    assert (frame["subject"], frame["clip"], frame["frame"]) == ("001", "001", 2) and len(frame["sha256"]) == 64


def test_frames_of_one_clip_are_never_on_both_sides(tmp_path, prepared, capsys):
    assert main(["data", "300vw", str(release_300vw(tmp_path / "b"))]) == 0
    rows = (prepared / "300VW" / "lists" / "300VW.train.GTB").read_text().splitlines()
    (prepared / "300VW" / "lists" / "early.txt").write_text("\n".join(rows[:3]) + "\n")
    (prepared / "300VW" / "lists" / "late.txt").write_text("\n".join(rows[4:]) + "\n")
    options = (
        "--data",
        "300VW",
        "--labelled",
        "300VW.test-A.GTB",
        "--unlabelled",
        "early.txt",
        "--evaluate",
        "late.txt",
    )
    assert make_run(tmp_path, *options) == 2
    assert (
        "late.txt:1: clip 001 is also in a training list (early.txt:1); remove one of them, or, to learn"
        in capsys.readouterr().err
    )
    assert make_run(tmp_path, *options, "--set", "data.transductive=true") == 0
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["transductive"] is True


def test_a_dataset_of_other_landmarks_asks_for_its_scheme(tmp_path, prepared, monkeypatch, capsys):
    monkeypatch.setattr(aflw, "TRAIN", 4)
    assert main(["data", "aflw", str(release_aflw(tmp_path / "release"))]) == 0
    assert (
        make_run(
            tmp_path,
            "--data",
            "AFLW",
            "--labelled",
            "AFLW.train.GTB",
            "--unlabelled",
            "AFLW.train.GTB",
            "--evaluate",
            "AFLW.test.GTB",
        )
        == 2
    )
    assert "set data.scheme=19" in capsys.readouterr().err


@pytest.fixture
def five_and_68(tmp_path, prepared):
    """Photographs with 5 landmarks, and 300-VW with 68, of whose lists one has no labels."""
    source = str(coco(tmp_path / "mine"))
    assert main(["data", "photographs", source, "--name", "mine", "--points", "5", "--val", "0.4"]) == 0
    assert main(["data", "300vw", str(release_300vw(tmp_path / "video"))]) == 0
    folder = prepared / "300VW"
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = (folder / "lists" / "300VW.test-A.GTB").read_text().splitlines()
    bare = [" ".join([image, "None", *box]) for image, _, *box in map(str.split, rows)]
    (folder / "lists" / "300VW.test-A.DET").write_text("\n".join(bare) + "\n")
    manifest["lists"]["300VW.test-A.DET"] = {"rows": len(rows), "labelled": 0}
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "option, refused",
    {
        "--unlabelled=300VW:300VW.train.GTB": False,  # its labels are not read
        "--evaluate=300VW:300VW.test-A.DET": False,
        "--evaluate=300VW:300VW.test-A.GTB": True,
        "--set=data.audit_labels=300VW:300VW.train.GTB": True,
    }.items(),
)
def test_faces_whose_labels_are_not_read_are_of_any_scheme(tmp_path, five_and_68, capsys, option, refused):
    lists = "--data=mine --labelled=train.txt --unlabelled=300VW:300VW.train.GTB --evaluate=val.txt".split()
    settings = ["--set=data.scheme=5", "--set=data.normaliser=pupil"]
    assert make_run(tmp_path, *lists, *settings, option) == (2 if refused else 0)
    said = "data.scheme=5: has 5 landmarks, and"
    assert (said in capsys.readouterr().err) == refused


def test_boxes_of_another_scheme_are_told(tmp_path, five_and_68, prepared, capsys):
    lists = "--data=mine --labelled=train.txt --unlabelled=300VW:300VW.test-A.DET --evaluate=val.txt".split()
    settings = ["--set=data.scheme=5", "--set=data.normaliser=pupil"]
    assert make_run(tmp_path, *lists, *settings) == 0 and "prepare it again" not in capsys.readouterr().out
    path = prepared / "mine" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["options"]["box"], manifest["options"]["scheme"]  # as former versions wrote it
    path.write_text(json.dumps(manifest))
    assert make_run(tmp_path, *lists, *settings) == 0
    warning = f"warning: {prepared / 'mine'}: the boxes around its landmarks are not those of data.scheme"
    assert warning in capsys.readouterr().out


def test_a_dataset_without_labels_is_said_to_be_the_unlabelled_faces_of_another(tmp_path, prepared, capsys):
    video = write_video(tmp_path / "walk.avi", scene(0, 6))
    (tmp_path / "boxes.csv").write_text("frame,x1,y1,x2,y2\n0,50,40,90,80\n5,50,40,90,80\n")
    boxes = ["--boxes-file", str(tmp_path / "boxes.csv")]
    assert main(["data", "video", str(video), "--name", "clips", *boxes]) == 0
    said = capsys.readouterr().out
    assert "another dataset: UNLABELLED=clips:unlabelled.txt (lists of " in said and "DATA=clips" not in said


def test_a_scheme_of_one_s_own_is_named_where_it_is_wanted(tmp_path, prepared, capsys):
    write_image(tmp_path / "mine" / "a.png", 1)
    (tmp_path / "mine" / "faces.csv").write_text("image,x0,y0,x1,y1\na.png,10,20,30,40\n")
    own = tmp_path / "eyes.yaml"
    own.write_text("points: 2\n")
    source = str(tmp_path / "mine" / "faces.csv")
    assert main(["data", "photographs", source, "--name", "mine", "--scheme", str(own), "--val", "0"]) == 0
    assert f"make data DATA=mine SET=data.scheme={own} LABELLED=" in capsys.readouterr().out
    lists = "--data=mine --labelled=train.txt --unlabelled=train.txt --evaluate=train.txt".split()
    assert make_run(tmp_path, *lists) == 2 and f"set data.scheme={own}" in capsys.readouterr().err


WRONG = {
    "no such source": (["300w", "/nowhere/300W"], "/nowhere/300W: no such file or folder"),
    "a name with a slash": (["300w", "RELEASE", "--name", "a/b"], "want one word"),
    "the embedded faces' name": (["300w", "RELEASE", "--name", "rendered-2"], "does not begin with 'rendered'"),
    "a file for a folder": (["300w", "RELEASE/ibug/image_003_1.jpg"], "holds none of afw"),
    "no workers": (["300w", "RELEASE", "--workers", "0"], "--workers 0: want 1 or more"),
    "fewer workers than none": (["youtube", "RELEASE", "--workers=-2"], "--workers -2: want 1 or more"),
    "another dataset's name": (["youtube", "RELEASE", "--name", "taken"], "holds what 300w made"),
}


@pytest.mark.parametrize("arguments, said", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_one_line_and_status_2(tmp_path, prepared, capsys, arguments, said):
    release = release_300w(tmp_path / "release")
    assert main(["data", "300w", str(release), "--name", "taken"]) == 0
    capsys.readouterr()
    assert main(["data", *(argument.replace("RELEASE", str(release)) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("error: ")


def test_an_option_that_a_builder_does_not_have_names_the_nearest(tmp_path, prepared):
    with pytest.raises(registry.ConfigError, match="300vw: no option 'evry' \\(did you mean 'every'\\?\\)"):
        registry.build("300vw", tmp_path, evry=2)
    with pytest.raises(registry.ConfigError, match="no builder '300v'.*did you mean '300vw'"):
        registry.build("300v", tmp_path)
    with pytest.raises(registry.ConfigError, match="give the dataset a --name"):
        registry.build("photographs", tmp_path)


def test_source_and_options_that_are_paths_start_at_the_base(tmp_path, prepared, monkeypatch):
    """The first notebook's kernel starts in any folder; its paths start at the repository."""
    write_image(tmp_path / "base" / "pictures" / "a.png", 1)
    (tmp_path / "base" / "labels").mkdir()
    (tmp_path / "base" / "labels" / "faces.csv").write_text("image,x0,y0,x1,y1\na.png,10,20,30,40\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = {"images": "pictures", "points": 2, "val": 0, "progress": False}
    folder, manifest = registry.build("photographs", "labels/faces.csv", name="m", base=tmp_path / "base", **options)
    assert manifest["source"] == str(tmp_path / "base" / "pictures") and manifest["lists"]["train.txt"]["rows"] == 1
    options["images"] = str(tmp_path / "base" / "pictures")  # an absolute path stays as it is
    source = str(tmp_path / "base" / "labels" / "faces.csv")
    assert registry.build("photographs", source, name="m", base=tmp_path, **options)[1]["rejected"] == 0


def test_two_processes_do_not_prepare_one_dataset_at_once(tmp_path, prepared, capsys):
    release = str(release_300w(tmp_path / "a"))
    code = "import sys, tsal.utils as u\nwith u.lock_folder(sys.argv[1]):\n print(flush=True)\n input()"
    command = [sys.executable, "-c", code, str(prepared / "300W")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as other:
        other.stdout.readline()
        assert main(["data", "300w", release]) == 2
        assert f"300W: process {other.pid} works in this folder; wait" in capsys.readouterr().err
        other.communicate(b"\n")
    assert main(["data", "300w", str(tmp_path / "none")]) == 2 and not (prepared / "300W").exists()
    assert main(["data", "300w", release]) == 0


def test_a_list_of_a_dataset_that_is_not_there_says_so(tmp_path, prepared, capsys):
    assert main(["data", "300w", str(release_300w(tmp_path / "a"))]) == 0
    assert (
        make_run(
            tmp_path,
            "--data",
            "300W",
            "--labelled",
            "300W.train.GTB",
            "--unlabelled",
            "300VW:300VW.train.DET",
            "--evaluate",
            "300W.common.GTB",
        )
        == 2
    )
    assert "300VW:300VW.train.DET: no dataset" in capsys.readouterr().err


def test_the_first_notebook_prepares_and_shows_a_dataset(tmp_path):
    """On the real folder data/prepared: the notebook runs in a process of its own."""
    release = tmp_path / "release"
    for i in range(3):
        write_pts(release / f"{i}.pts", landmarks(68, i))
        write_image(release / f"{i}.jpg", i)
    name = f"test-{tmp_path.parent.name}-{tmp_path.name}"
    folder = REPOSITORY / "data" / "prepared" / name
    try:
        status = main(
            [
                "notebook",
                str(REPOSITORY / "notebooks" / "01_data.ipynb"),
                "--run",
                str(tmp_path / "run"),
                "-p",
                "run",
                "",
                "-p",
                "build",
                "photographs",
                "-p",
                "source",
                str(release),
                "-p",
                "name",
                name,
                "-p",
                "options",
                "{points: 68, val: 0}",
            ]
        )
        assert status == 0
        cells = json.loads((tmp_path / "run" / "executed" / "01_data.ipynb").read_text())["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
        assert any("lists/train.txt: 3 rows, 3 labelled" in "".join(output.get("text", "")) for output in outputs)
        assert not (tmp_path / "run" / "config.json").exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
