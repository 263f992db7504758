"""Tables in Markdown, and the names that mistyped ones may have meant."""

from __future__ import annotations

from tsal.utils import counted, markdown_table, nearest


def test_a_table_has_a_head_a_rule_and_a_row_each():
    assert markdown_table(("a", "b"), [(1, "x|y"), (None, "")]) == (
        "| a | b |\n| --- | --- |\n| 1 | x\\|y |\n| None |  |"
    )
    assert markdown_table(iter("a"), iter(())) == "| a |\n| --- |"


def test_the_nearest_name_is_told_where_one_is_near():
    assert nearest("smoka", ["cpu", "smoke"]) == " (did you mean 'smoke'?)"
    assert nearest("xyz", ["cpu", "smoke"]) == "" == nearest("smoke", ())


def test_one_thing_is_no_plural():
    assert [counted(n, "face") for n in (0, 1, 2)] == ["0 faces", "1 face", "2 faces"]
