"""Where tqdm is not installed, its stand-in passes everything on and shows nothing."""

from __future__ import annotations

import importlib.util
import sys

from tsal.utils import progress


def test_without_tqdm_loops_go_on_and_nothing_is_shown(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    spec = importlib.util.spec_from_file_location("progress_without_tqdm", progress.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.tqdm.__module__ == "progress_without_tqdm"
    assert list(module.tqdm(range(3), desc="x", total=3, disable=False)) == [0, 1, 2]
    with module.tqdm(total=2, desc="x") as bar:
        bar.update()
        bar.set_postfix(loss="1", refresh=False)
    with module.tqdm(iter("ab")) as bar:
        assert list(bar) == ["a", "b"]
    bar.close()
    said = capsys.readouterr()
    assert said.out == said.err == ""
