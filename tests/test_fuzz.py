"""Every reader takes a broken file or says in one line what is wrong with it: no traceback, no hang, no memory without
bound, nothing left behind. ``make fuzz`` runs the long form.
"""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
import yaml
from fuzz import mutate, paths_below, walk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import READERS, outcome, read_forked

from tsal.prepare import matlab

CASES = int(os.environ.get("FUZZ", "0"))
SHORT = 60


# --- whole files that are broken ---


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_broken_file_is_read_or_reported_in_a_line(tmp_path, monkeypatch, name):
    if CASES:  # in the short form .mat files are read as they are for users
        monkeypatch.setattr(matlab, "read_apart", read_forked)
    (tmp_path / "source").mkdir()
    reader = READERS[name]
    path = reader.make(tmp_path / "source")
    whole = path.read_bytes()
    assert outcome(reader.read, path) == ""
    reader.read(path)  # a whole file is not refused, which `outcome` would let pass
    before = paths_below(tmp_path)
    wrong: dict[str, int] = {}
    for case in range(CASES or SHORT // reader.one_in):
        path.write_bytes(mutate(whole, random.Random(f"{name} {case}")))
        if said := outcome(reader.read, path):
            wrong.setdefault(said, case)
        assert paths_below(tmp_path) == before, f"case {case} leaves a file"
    assert not wrong, "\n".join(f"case {case}: {said}" for said, case in list(wrong.items())[:20])


# --- files that are generated, by hypothesis ---

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
NUMBERS = st.integers() | st.floats()


def lines(separator: str, whole: str) -> st.SearchStrategy[str]:
    """Rows of words, numbers and cells of a whole file, below its first line or another one."""
    own = sorted({cell for line in whole.splitlines() for cell in line.split(separator)})
    cells = WORDS | NUMBERS.map(str) | st.sampled_from(own)
    rows = st.lists(st.lists(cells, max_size=14).map(separator.join), max_size=6)
    return st.tuples(st.sampled_from([whole.partition("\n")[0], ""]), rows).map(
        lambda parts: "\n".join([parts[0], *parts[1]])
    )


def trees(whole: Any) -> st.SearchStrategy[Any]:
    """Plain values with the keys and the values of a whole tree, and others, in any place."""
    places = [(key, holder[key]) for holder, key in walk(whole)]
    keys = st.sampled_from(sorted({key for key, _ in places if isinstance(key, str)})) | WORDS
    plain = [value for _, value in places if not isinstance(value, dict | list)]
    leaves = st.none() | st.booleans() | NUMBERS | WORDS | st.sampled_from(plain)
    return st.recursive(leaves, lambda part: st.lists(part, max_size=4) | st.dictionaries(keys, part, max_size=6))


def dumped(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True)


GENERATED = {
    "list": lambda whole: lines(" ", whole),
    "landmarks (.pts)": lambda whole: lines(" ", whole),
    "photographs (.csv)": lambda whole: lines(",", whole),
    "boxes (.csv)": lambda whole: lines(",", whole),
    "prepared dataset (images.csv)": lambda whole: lines(",", whole),
    "audit (frames.csv)": lambda whole: lines(",", whole),
    "photographs (COCO .json)": lambda whole: trees(json.loads(whole)).map(json.dumps),
    "run (config.json)": lambda whole: trees(json.loads(whole)).map(json.dumps),
    "run (scheme.json)": lambda whole: trees(json.loads(whole)).map(json.dumps),
    "run (manifest.json)": lambda whole: trees(json.loads(whole)).map(json.dumps),
    "prepared dataset (manifest.json)": lambda whole: trees(json.loads(whole)).map(json.dumps),
    "alarms (.json)": lambda whole: trees(json.loads(whole)).map(json.dumps),
    "profile (.yaml)": lambda whole: trees(yaml.safe_load(whole)).map(dumped),
    "scheme (.yaml)": lambda whole: trees(yaml.safe_load(whole)).map(dumped),
    "method (.yaml)": lambda whole: trees(yaml.safe_load(whole)).map(dumped),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_file_is_read_or_reported_in_a_line(tmp_path, name):
    (tmp_path / "source").mkdir()
    reader = READERS[name]
    path = reader.make(tmp_path / "source")
    before = paths_below(tmp_path)
    checks = list(HealthCheck)

    @settings(max_examples=CASES or SHORT, derandomize=True, database=None, deadline=None, suppress_health_check=checks)
    @given(GENERATED[name](path.read_text()))
    def reads(content: str) -> None:
        path.write_bytes(content.encode("utf-8", "surrogatepass"))
        assert outcome(reader.read, path) == ""
        assert paths_below(tmp_path) == before

    reads()
