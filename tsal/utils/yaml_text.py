"""YAML of other people: plain values, without what makes little text huge."""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 2**20  # characters: PyYAML takes ten seconds for so many


class PlainLoader(yaml.SafeLoader):
    """Takes no aliases (``&a`` and ``*a``): nine lines of them are a billion values."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("an alias (*) is not taken: write the value out")
        return super().compose_node(parent, index)


def load_yaml(text: str, loader: type[PlainLoader] = PlainLoader) -> Any:
    """The values of a YAML or JSON text.

    Raises:
        yaml.YAMLError: it is not valid; also for what PyYAML raises other errors at: a date that does not exist, a
            number of thousands of digits, thousands of brackets, a key that is a list; and for over a million
            characters.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"{len(text)} characters, want at most {LONGEST}")
    try:
        return yaml.load(text, loader)
    except (ValueError, TypeError, RecursionError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise yaml.YAMLError(str(error) or type(error).__name__) from error
