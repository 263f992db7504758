"""Generated text in hand-written pages: a page includes files, and a test holds that it is up to date.

A block is replaced by the file that its first line names, relative to the page:

    <!-- include: results/realdata-300w-50/table.md -->
    <!-- end -->

A file's title, a first line that begins with "# ", is left out: the page has headings of its own. So is an empty line
under a heading.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tsal.utils import DataError, write_text

BLOCK = re.compile(r"(?P<begin><!-- include: (?P<path>\S+) -->\n)(?P<text>.*?)(?P<end><!-- end -->)", re.DOTALL)


def refreshed(page: Path) -> str:
    """The page's text with every included file as it is now; nothing is written.

    Raises:
        DataError: an included file that cannot be read, or a block without its end.
    """
    text = page.read_text()
    if text.count("<!-- include: ") != len(BLOCK.findall(text)):
        raise DataError(f"{page}: an include without a file's name, or without <!-- end -->")

    def included(block: re.Match) -> str:
        path = page.parent / block["path"]
        try:
            content = path.read_text()
        except OSError as error:
            raise DataError(f"{page}: cannot include {path}: {error.strerror}") from error
        content = re.sub(r"\A# .*\n+", "", content).strip("\n")
        content = re.sub(r"\n*^(#+ .*)\n\n+", r"\n\1\n", content, flags=re.MULTILINE).strip("\n")
        return f"{block['begin']}{content}\n{block['end']}"

    return BLOCK.sub(included, text)


def refresh(page: Path) -> bool:
    """Write the page with every included file as it is now -> whether anything changed."""
    text = refreshed(page)
    changed = text != page.read_text()
    if changed:
        write_text(page, text)
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tsal.bench.pages", description=__doc__.splitlines()[0])
    parser.add_argument("pages", type=Path, nargs="+", metavar="PAGE", help="pages to rewrite, such as docs/results.md")
    for page in parser.parse_args(arguments).pages:
        try:
            print(f"{page}: {'rewritten' if refresh(page) else 'up to date'}")
        except (DataError, OSError) as error:
            parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
