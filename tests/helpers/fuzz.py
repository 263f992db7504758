"""Broken files for readers: seeded mutations of a whole file's bytes, values and archive members, and a watch that a
reader stays within time and memory.
"""

from __future__ import annotations

import io
import json
import random
import resource
import signal
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

SECONDS, MEMORY = 5, 2**30  # a case may take so long, and so many bytes more than there were before
WORDS = [b"nan", b"-nan", b"inf", b"-inf", b"1e308", b"-1", b"0", b"1e999", b"9" * 20, b"9" * 5000, b"0x10", b"1_0"]
WORDS += [b"", b"None", b"../../x", b"/etc/passwd", b"\0", b"\xff\xfe", b"\xc3\xa9", "\u0663".encode(), b"x" * 300]
WORDS += [b"{", b"}", b'"', b",", b"\r", b"\n", b"[" * 3000, b"&a [*a]", b"2020-13-45", b"\x1b[2J", b"!!python/name:os"]
COUNTS = [0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1]
VALUES = [None, True, -1, 0, 2**31, 10**30, 10**400, 1e308, float("nan"), float("inf"), "", "nan", "x" * 300, "\0"]
VALUES += ["../../x", "/etc/passwd", "9" * 5000, [], {}, [[]], {"a": 1}, [None], "é\n\x1b[2J", 10**9, 0.5, "0-9999999"]


# --- mutations ---


def mutate(content: bytes, chance: random.Random) -> bytes:
    """One to four changes: of bytes, of words of a text, or of what an archive, a JSON or a YAML text holds."""
    deep = [change for is_of, change in DEEP if is_of(content)]
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        change = chance.choice(deep) if deep and chance.random() < 0.5 else chance.choice(BYTEWISE)
        try:
            content = change(content, chance)
        except Exception:
            content = chance.choice(BYTEWISE)(content, chance)  # a former change broke it
    return content


def flip(content: bytes, chance: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8, 64)) if out else 0):
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
    return bytes(out)


def cut(content: bytes, chance: random.Random) -> bytes:
    start, end = span(content, chance)
    return chance.choice((content[:start], content[start:], content[:start] + content[end:]))


def double(content: bytes, chance: random.Random) -> bytes:
    start, end = span(content, chance)
    return content[:end] + content[start:end] * chance.choice((1, 1, 3, 50)) + content[end:]


def splice(content: bytes, chance: random.Random) -> bytes:
    """A part of the file over another part."""
    (start, end), (place, _) = span(content, chance), span(content, chance)
    return content[:place] + content[start:end] + content[place + end - start :]


def insert(content: bytes, chance: random.Random) -> bytes:
    place = chance.randint(0, len(content))
    return content[:place] + chance.choice((*WORDS, chance.randbytes(9))) + content[place:]


def recount(content: bytes, chance: random.Random) -> bytes:
    """A binary number, somewhere, becomes a count that is none."""
    place = chance.randint(0, min(len(content), chance.choice((64, 512, len(content)))))
    number = struct.pack(chance.choice("<>") + "I", chance.choice(COUNTS))
    return content[:place] + number + content[place + 4 :]


def replace_word(content: bytes, chance: random.Random) -> bytes:
    """A number or a word of a text becomes something else."""
    words = list(words_of(content))
    if not words:
        return insert(content, chance)
    start, end = chance.choice(words)
    return content[:start] + chance.choice(WORDS) + content[end:]


def words_of(content: bytes, most: int = 5000) -> Iterator[tuple[int, int]]:
    start = None
    for place, byte in enumerate(content[:most] + b" "):
        if chr(byte).isalnum() or byte in b"._+-":
            start = place if start is None else start
        elif start is not None:
            yield start, place
            start = None


def span(content: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(content))
    return start, min(len(content), start + chance.choice((1, 2, 8, 64, 1024)))


BYTEWISE = (flip, cut, double, splice, insert, recount, replace_word)


# --- deeper ones: checksums and syntax stay right, so that the reader comes to what they hold ---


def in_archive(content: bytes, chance: random.Random) -> bytes:
    """A member of a zip (.npz, a checkpoint) changed, and its checksum right."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    # what says what there is: the pickle of a checkpoint, the head of an array
    names = sorted(members, key=lambda name: (not name.endswith("data.pkl"), name))
    name = names[0] if chance.random() < 0.5 else chance.choice(names)
    way = chance.random()
    if way < 0.1:
        members.pop(name)
    elif way < 0.2:
        members[chance.choice(names)] = members[name]
    else:
        head = chance.choice((64, 128, len(members[name])))
        whole = members[name]
        members[name] = chance.choice(BYTEWISE)(whole[:head], chance) + whole[head:]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return out.getvalue()


def in_matlab(content: bytes, chance: random.Random) -> bytes:
    """A .mat file's own data changed, where it is compressed too."""
    head, (kind, size) = content[:128], struct.unpack_from("<II", content, 128)
    if kind != 15:
        return recount(content, chance)
    data = zlib.compress(chance.choice(BYTEWISE)(zlib.decompress(content[136 : 136 + size]), chance))
    return head + struct.pack("<II", 15, len(data)) + data + content[136 + size :]


def in_png(content: bytes, chance: random.Random) -> bytes:
    """The head of a PNG (size, depth, colours) changed, and its checksum right."""
    head = bytearray(content[12:29])
    if chance.random() < 0.7:
        struct.pack_into(">I", head, chance.choice((4, 8)), chance.choice((*COUNTS, 20000, 60000)))
    else:
        head[chance.randrange(12, 17)] = chance.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
    return content[:12] + bytes(head) + struct.pack(">I", zlib.crc32(head)) + content[33:]


def in_json(content: bytes, chance: random.Random) -> bytes:
    """Values and keys of a JSON text changed; written in one line."""
    return json.dumps(changed(json.loads(content), chance)).encode()


def in_yaml(content: bytes, chance: random.Random) -> bytes:
    return yaml.safe_dump(changed(yaml.safe_load(content), chance), allow_unicode=True).encode("utf-8", "surrogatepass")


def changed(tree: Any, chance: random.Random) -> Any:
    """A value somewhere in a tree of plain values taken out, doubled, moved or replaced."""
    places = list(walk(tree))
    if not places:
        return chance.choice(VALUES)
    holder, key = chance.choice(places)
    way = chance.random()
    if way < 0.1:
        del holder[key]
    elif way < 0.2:
        other, at = chance.choice(places)
        holder[key] = json.loads(json.dumps(other[at]))
    elif way < 0.3 and isinstance(holder, list):
        holder.append(chance.choice(VALUES))
    elif way < 0.4 and isinstance(holder, dict):
        holder[str(chance.choice(VALUES))] = chance.choice(VALUES)
    else:
        holder[key] = chance.choice(VALUES)
    return tree


def walk(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every value in a tree."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from walk(tree[key])


def is_yaml(content: bytes) -> bool:
    first = content.partition(b":")[0]
    return b": " in content and first.replace(b"_", b"").isalnum()


DEEP: tuple[tuple[Callable[[bytes], bool], Callable[[bytes, random.Random], bytes]], ...] = (
    (lambda content: content.startswith(b"PK"), in_archive),
    (lambda content: content.startswith(b"MATLAB"), in_matlab),
    (lambda content: content.startswith(b"\x89PNG"), in_png),
    (lambda content: content[:1] in (b"{", b"["), in_json),
    (is_yaml, in_yaml),
)


# --- the watch ---


class TooSlow(BaseException):
    """No Exception: a reader that reports whatever it stumbles on must not report this."""


@contextmanager
def bounded(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """Whatever runs within ends with :class:`TooSlow` after so long, and cannot take more memory than this.

    Seconds are of the processor, since other programs may run; what waits, and takes none, ends after ten times as
    long.
    """

    def stop(*_):
        raise TooSlow(f"over {seconds} s")

    before = resource.getrlimit(resource.RLIMIT_AS)
    former = [(number, signal.signal(number, stop)) for number in (signal.SIGPROF, signal.SIGALRM)]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, before[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in former:
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def paths_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
