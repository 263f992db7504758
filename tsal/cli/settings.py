"""``python -m tsal config``: settings resolved, each with where it came from."""

from __future__ import annotations

import argparse
import re

from tsal.cli.options import LISTS, add_run, add_settings, difference, refuse_beside_run, resolved
from tsal.utils import InputError


def add_config(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    text = "print every setting of these options, and where each came from"
    show = commands.add_parser("show", help=text, description=f"{text.capitalize()}.")
    show.add_argument(
        "names", nargs="*", metavar="NAME", help="only these sections or settings, such as semi or tsal.sources"
    )
    add_settings(show)
    text = "print the settings that differ between two methods, profiles or budgets, or from the defaults"
    diff = commands.add_parser("diff", help=text, description=f"{text.capitalize()}.")
    diff.add_argument(
        "others",
        nargs="*",
        metavar="KIND=NAME",
        help="method=mean-teacher, profile=smoke or budget=300w-50: the other side; nothing: the default run",
    )
    add_settings(diff)
    for subparser in (show, diff):
        add_run(subparser)
    commands.add_parser("page", help="print docs/configuration.md: every setting, its default and what it is for")


def run_config(arguments: argparse.Namespace) -> None:
    if arguments.what == "page":
        print(configuration_page(), end="")
        return
    if arguments.run is not None:
        from tsal.run import Run

        refuse_beside_run(arguments)
        config, origins = Run.open(arguments.run.absolute()).config, {}
    else:
        config, origins = resolved(arguments)
    show(config, origins, arguments.names) if arguments.what == "show" else diff(arguments, config)


def show(config, origins: dict[str, str], names: list[str]) -> None:
    from tsal.config import fields_of

    rows = []
    for name, item in fields_of():
        if not names or any(name == n or name.startswith(f"{n}.") for n in names):
            rows.append((name, config.flat()[name], origins.get(name, "config.json"), item.metadata["text"]))
    if not rows:
        raise InputError(f"no section or setting {', '.join(names)}")
    width = max(len(name) for name, *_ in rows)
    value_width = min(44, max(len(text_of(value)) for _, value, *_ in rows))
    for name, value, origin, text in rows:
        print(f"{name:{width}}  {text_of(value):{value_width}}  [{origin}]  {text}")


def diff(arguments: argparse.Namespace, config) -> None:
    from tsal.config import Config, resolve

    kinds = ("profile", "budget", "method")
    pairs = [text.partition("=") for text in arguments.others]
    if wrong := [text for text, (kind, _, name) in zip(arguments.others, pairs) if kind not in kinds or not name]:
        raise InputError(f"{wrong[0]}: write profile=NAME, budget=NAME or method=NAME")
    named = {kind: name for kind, _, name in pairs}
    if not pairs:
        other = Config()
    elif arguments.run is None:
        other = resolved(arguments, **named)[0]
    else:  # as the run is named otherwise
        own = {kind: getattr(config, kind) for kind in kinds} | named
        lists = () if own["budget"] else LISTS
        faces = {f"data.{name}": getattr(config.data, name) for name in ("name", "root", *lists)}
        other = resolve(**own, lists=faces, overrides={"seed": config.seed})[0]
    differences = difference(other, config)
    print(
        "\n".join(f"{name}: {text_of(first)} -> {text_of(second)}" for name, (first, second) in differences.items())
        or "none"
    )


def text_of(value) -> str:
    return (
        "[" + ", ".join(map(str, value)) + "]"
        if isinstance(value, (list, tuple))
        else repr(value)
        if value == ""
        else str(value)
    )


PAGE = """# Configuration

Made from the code: `python -m tsal config page > docs/configuration.md` (a test holds the two equal).

Settings come from five places; the later wins: a **profile** (scale: model, steps, batch, rendering, tracker) < a
**budget** (data: lists, and faces of each kind a step) < the **lists** of the command line (`--labelled --unlabelled
--evaluate --data --root`) < a **method** (targets: every `tsal.*` setting) < `--set section.name=value`. The defaults
are the profile `demo` with the method `tsal`. `python -m tsal config show` prints the resolved settings of any options,
each with where it came from, and `python -m tsal config diff --method mean-teacher` what another choice changes.
Lengths called px are pixels of the network's input.

Roles: a *machine* setting changes how a run goes and never what comes out of it; a *measuring* one is not seen by
training; an *unlabelled* one touches no labelled face, so supervised trainings do not depend on it. A *name* is only a
label; the settings that it brings are what counts.

| kind | files |
| --- | --- |
| profiles | {profiles} |
| budgets | {budgets} |
| methods | {methods} |
"""


def configuration_page() -> str:
    """docs/configuration.md."""
    from tsal.config import LABELS, Config, fields_of, names_of
    from tsal.utils import markdown_table

    kinds = {kind: ", ".join(f"`{name}`" for name in names_of(kind)) for kind in ("profiles", "budgets", "methods")}
    defaults, sections = Config().flat(), {}
    for name, item in fields_of():
        section, _, own = name.rpartition(".")
        text = item.metadata["text"] + (f" ({', '.join(choices)})" if (choices := choices_of(item.type)) else "")
        row = (f"`{own}`", f"`{text_of(defaults[name])}`", text, "name" if name in LABELS else item.metadata["role"])
        sections.setdefault(section, []).append(row)
    parts = [PAGE.format(**kinds)]
    for section, rows in sections.items():
        about = type(getattr(Config(), section)).__doc__.split("\n\n")[0] if section else "The run as a whole."
        head = ("setting", "default", "what it is", "role")
        parts.append(f"## {section or 'names and seed'}\n\n{' '.join(about.split())}\n\n{markdown_table(head, rows)}\n")
    return "\n".join(parts)


def choices_of(kind: str) -> list[str]:
    """The values that a setting may have, where they are a few: of its annotation ``Literal["a", "b"]``."""
    return re.findall(r"[\w-]+", kind.removeprefix("Literal")) if kind.startswith("Literal") else []
