"""File names of a spec: globs, brace expansion, and lists with commas."""

from __future__ import annotations

import glob
import os
import re

from ...errors import InputError


def local_files(spec: str, ending: str = "") -> list[str]:
    """The files that "a/*.tar", "a/{00..07}.tar", "a/{x,y}.tar" or several of these with commas between them mean.

    ending: taken of a folder. Raises `InputError` for a part that matches nothing.
    """
    files: list[str] = []
    for part in [spec] if os.path.exists(spec) else re.split(r",(?![^{]*\})", spec):
        found = [name for pattern in expand_braces(part.strip()) for name in _matching(pattern, ending)]
        if not found:
            raise InputError(
                f"{part.strip()!r} matches no file; expected a path, a glob, {{00..07}}, or a list of them"
            )
        files += found
    return list(dict.fromkeys(files))


def shard_stem(path: str) -> str:
    """ "data/train-00.tar" -> "train-00": the same wherever the shard lies."""
    return os.path.basename(path).removesuffix(".tar")


def expand_braces(pattern: str) -> list[str]:
    """ "s-{08..10}.tar" -> s-08.tar, s-09.tar, s-10.tar; "{a,b}.tar" -> a.tar, b.tar; in order."""
    braces = re.search(r"\{([^{}]*)\}", pattern)
    if braces is None or os.path.exists(pattern):
        return [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", braces[1])
    if numbers:
        first, last = numbers.groups()
        width = len(first) if first.startswith("0") else 0
        middle = [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    else:
        middle = braces[1].split(",")
    return [name for one in middle for name in expand_braces(before + one + after)]


def _matching(pattern: str, ending: str) -> list[str]:
    if os.path.isdir(pattern):
        return sorted(glob.glob(os.path.join(glob.escape(pattern), f"*{ending}"))) if ending else []
    if os.path.exists(pattern):
        return [pattern]
    return sorted(name for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
