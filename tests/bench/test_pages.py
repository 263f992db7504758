"""Pages include generated files: what a page shows is what the file says."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from tsal.bench.conditions import all_labels
from tsal.bench.pages import main, refresh, refreshed
from tsal.bench.table import compare, markdown, read_results
from tsal.config import all_labels_budget, resolve
from tsal.utils.errors import DataError
from tsal.utils.paths import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_the_files_that_it_includes_as_they_are(page):
    assert page.read_text() == refreshed(page), f"run: python -m tsal.bench.pages {page.relative_to(REPOSITORY)}"


def test_the_pages_include_a_table_of_every_folder_of_results():
    text = "".join(page.read_text() for page in PAGES)
    tables = [*(DOCS / "results").rglob("table.md")]
    assert tables
    for table in tables:
        assert f"<!-- include: {table.relative_to(DOCS)} -->" in text


@pytest.mark.parametrize("table", sorted((DOCS / "results").rglob("table.md")), ids=lambda path: path.parent.name)
def test_a_published_table_is_what_the_code_makes_of_the_results_beside_it(table):
    folder = table.parent
    data, _, budget = folder.name.partition("-")
    full, everything = {}, all_labels_budget(budget)
    if everything:
        results = read_results(folder.parent / f"{data}-{everything}")
        full = all_labels(lambda method: resolve("faces", everything, method, lists={"data.name": data})[0], results)
    assert table.read_text() == f"# {folder.name}\n\n{markdown(compare(read_results(folder), full))}"


def test_a_block_is_replaced_and_what_stands_around_it_is_kept(tmp_path):
    (tmp_path / "table.md").write_text("# title\n\n| a |\n| --- |\n\n")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- include: table.md -->\nold\n<!-- end -->\nafter\n")
    assert refresh(page)
    assert page.read_text() == "before\n<!-- include: table.md -->\n| a |\n| --- |\n<!-- end -->\nafter\n"
    assert not refresh(page)


BROKEN = (
    "<!-- include: gone.md -->\n<!-- end -->\n",
    "<!-- include: page.md -->\n",
    "<!-- include: a b -->\n<!-- end -->\n",
)


@pytest.mark.parametrize("text", BROKEN, ids=["no such file", "no end", "no name"])
def test_a_block_that_cannot_be_filled_is_an_error_that_names_the_page(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(DataError, match="page.md"):
        refresh(page)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [([], "PAGE"), (["{}/gone.md"], "gone.md"), (["{}/page.md"], "page.md: cannot include")],
    ids=["no page", "no such page", "no such table"],
)
def test_the_command_ends_with_one_line_where_a_page_cannot_be_made(tmp_path, capsys, arguments, line):
    (tmp_path / "page.md").write_text(BROKEN[0])
    with pytest.raises(SystemExit) as ended:
        main([argument.format(tmp_path) for argument in arguments])
    *usage, said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line in said and usage[0].startswith("usage: python -m tsal.bench.pages")


def test_the_command_tells_which_pages_it_rewrote(tmp_path, capsys):
    (tmp_path / "table.md").write_text("| a |\n| --- |\n")
    (tmp_path / "page.md").write_text("<!-- include: table.md -->\nold\n<!-- end -->\n")
    (tmp_path / "plain.md").write_text("text\n")
    assert main([str(tmp_path / "page.md"), str(tmp_path / "plain.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/page.md: rewritten\n{tmp_path}/plain.md: up to date\n"


def test_the_readme_s_results_are_those_of_the_tables():
    rows = [line.split(" | ") for line in PAGES[0].read_text().splitlines() if re.match(r"\| \d+ \w+ \| `", line)]
    assert len(rows) == 4
    lists = ("semi/300W.val-150.GTB", "YTF.val.GTB")
    for _, budget, *cells, ours in rows:
        table = pd.read_csv(DOCS / "results" / f"realdata-{budget.strip('`')}" / "table.csv")
        for method, cell in zip(("supervised", "mean-teacher", "mean-teacher-corrected"), cells, strict=True):
            nme = table[table.method == method].set_index("list").NME
            assert cell == " / ".join(f"{nme[name]:.3f}" if name in nme else "-" for name in lists)
        if "tsal" not in set(table.method):  # its runs have inits of their own
            table = pd.read_csv(DOCS / "results" / "other-inits" / f"realdata-{budget.strip('`')}" / "table.csv")
        assert "tsal" in set(table.method)
        nme = table[table.method == "tsal"].set_index("list").NME
        rival = table[table.method == "mean-teacher-corrected"].set_index("list")
        assert set(rival.ours) == {"tsal"}
        [seeds] = set(rival.seeds) | set(table[table.method == "tsal"].seeds)
        apart = {
            name: f"{row.ahead:+.3f}" + "*" * (row["ahead low"] * row["ahead high"] > 0)
            for name, row in rival.iterrows()
        }
        errors = " / ".join(f"{nme[name]:.3f}" if name in nme else "-" for name in lists)
        shown = " / ".join(apart.get(name, "-") for name in lists)
        few = {1: "; 1 seed", 2: "; 2 seeds", 3: ""}[seeds]
        assert ours == f"{errors} ({shown}{few}) |"
