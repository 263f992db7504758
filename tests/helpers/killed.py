"""A command of tsal that is killed at a moment of one's choice: python killed.py PREPARED EVENTS MOMENT COMMAND...

PREPARED is the folder of rendered faces. What happens is written to the file EVENTS, a line each: clips rendered,
steps of optimisers, files half written, and names given to whole ones. At the event of number MOMENT (from 0), or at
the first one that MOMENT is a part of, the process kills itself (SIGKILL: nothing is cleaned up); at none where it is
"never". Of the processes that torchrun starts, each writes EVENTS-RANK, and MOMENT is RANK:NUMBER, before a restart.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path


class Events:
    def __init__(self, path: Path, moment: str):
        self.file, self.moment, self.count = path.open("w"), moment, 0

    def happens(self, what: str) -> None:
        self.file.write(f"{what}\n")
        self.file.flush()
        if str(self.count) == self.moment or (not self.moment.isdigit() and self.moment in what):
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1


def short(path) -> str:
    """The last two parts of a path, without what makes a temporary name."""
    path = Path(path)
    name = path.name.split(".tmp")[0].rpartition(".")[0].lstrip(".") if ".tmp" in path.name else path.name
    return f"{path.parent.name}/{name}"


def watch(events: Events) -> None:
    """Make this process report its events."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    from tsal.synthetic import dataset

    save, replace, write_text, all_written = torch.save, os.replace, Path.write_text, dataset._all_written

    def save_in_two(content, file):
        whole = io.BytesIO()
        save(content, whole)
        half = len(whole.getvalue()) // 2
        file.write(whole.getvalue()[:half])
        file.flush()
        events.happens(f"half of {short(file.name)}")
        file.write(whole.getvalue()[half:])

    def replace_and_tell(source, target, **options):
        events.happens(f"written {short(target)}")
        replace(source, target, **options)
        events.happens(f"named {short(target)}")

    def write_in_two(path, text, *more, **options):
        write_text(path, text[: len(text) // 2], *more, **options)
        events.happens(f"half of {short(path)}")
        return write_text(path, text, *more, **options)

    def written(*arguments):
        for result in all_written(*arguments):
            events.happens("clip")
            yield result

    register_optimizer_step_pre_hook(lambda *_: events.happens("step"))
    torch.save, os.replace, Path.write_text, dataset._all_written = save_in_two, replace_and_tell, write_in_two, written


if __name__ == "__main__":  # a renderer's workers import this file too
    prepared, events, moment, *command = sys.argv[1:]
    from tsal.utils import paths

    paths.PREPARED = Path(prepared)
    if rank := os.environ.get("RANK"):
        whose, _, number = moment.partition(":")
        first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        events, moment = f"{events}-{rank}", number if whose == rank and first else "never"
    watch(Events(Path(events), moment))
    from tsal.cli import main

    sys.exit(main(command))
