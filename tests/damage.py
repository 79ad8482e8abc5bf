"""Damaged files: a small mutator of JSON, YAML, safetensors and whole files, seeded, for tests of what reads them."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

DEEP = "[" * 100_000
WRONG: tuple[Any, ...] = (
    None, True, "x", "", "é" * 300, -1, 0, 1, 3, 10**6, 10**9, 10**30, 0.5, -1.5, 1e300, float("nan"), float("inf"),
    [], {}, [1], ["a", 2], {"a": 1}, [[[[]]]], "/dev/zero", "\udcff", "..", "hf-hub:a/b/c/d",
)  # fmt: skip


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a tree of objects and lists, but only to the first two of a list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from places(inner, (*above, key))


def replaced(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of the tree with another value at `place`."""
    tree = json.loads(json.dumps(tree))
    at = tree
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    return tree


def without(tree: Any, place: tuple[Any, ...]) -> Any:
    tree = json.loads(json.dumps(tree))
    at = tree
    for key in place[:-1]:
        at = at[key]
    del at[place[-1]]
    return tree


def damage_json(path: Path, rng: random.Random) -> str:
    """Change one place of a JSON object; returns what was done."""
    tree = json.loads(path.read_text())
    place = rng.choice([*places(tree), ("unknown",)])
    if place != ("unknown",) and rng.random() < 0.15:
        path.write_text(json.dumps(without(tree, place)))
        return f"{path.name} without {place}"
    wrong = rng.choice(WRONG)
    path.write_text(json.dumps(replaced(tree, place, wrong)))
    return f"{path.name} {place} = {ascii(wrong)[:30]}"


def damage_tensors(path: Path, rng: random.Random) -> str:
    """Change one tensor of a safetensors file, or its metadata; returns what was done."""
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    one = tensors[name]
    changes: dict[str, Callable[[], Any]] = {
        "nan": lambda: _with(one, float("nan")),
        "inf": lambda: _with(one, float("inf")),
        "missing": lambda: None,
        "integers": lambda: torch.zeros(one.shape, dtype=torch.int64),
        "scalar": lambda: torch.tensor(1.0),
        "empty": lambda: torch.zeros(0, *one.shape[1:]),
        "wider": lambda: torch.zeros(*one.shape[:-1], one.shape[-1] + 1) if one.ndim else torch.zeros(3),
        "flat": lambda: one.flatten(),
    }
    kind = rng.choice([*changes, "extra", "metadata"])
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    if kind in changes:
        tensors[name] = changes[kind]()
    elif kind == "extra":
        tensors[name.replace("0", "300000") if "0" in name else f"{name}.more"] = one.clone()
    else:
        metadata = {"textlens": rng.choice(["", "[]", "{}", DEEP, '{"clip": 3}', '{"clip": "coca", "entries": "x"}'])}
    save_file({key: t.contiguous() for key, t in tensors.items() if t is not None}, path, metadata)
    return f"{path.name} {name} {kind} {str(metadata)[:40]}"


def _with(tensor: torch.Tensor, value: float) -> torch.Tensor:
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    tensor = tensor.clone()
    tensor.view(-1)[tensor.numel() // 2] = value
    return tensor


def damage_bytes(path: Path, rng: random.Random) -> str:
    """Cut, change or replace a whole file; returns what was done."""
    data = path.read_bytes()
    place = rng.randrange(max(1, min(len(data), 4000)))
    header = b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}'
    changes: dict[str, bytes] = {
        "empty": b"",
        "cut": data[:place],
        "half": data[: len(data) // 2],
        "flipped": data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))] if data else b"") + data[place + 1 :],
        "longer": data + b"\0" * 100,
        "not UTF-8": b"\xff\xfe" + data,
        "zeros": b"\0" * len(data),
        "deep": DEEP.encode(),
        "deep object": b'{"a":' * 50_000,
        "long number": b'{"a": ' + b"9" * 10_000 + b"}",
        "list": b"[1, 2]",
        "huge header": struct.pack("<Q", 2**62) + data[8:],
        "huge shape": struct.pack("<Q", len(header)) + header + b"\0" * 4,
    }
    kind = rng.choice([*changes, "FIFO", "folder", "dangling link", "missing"])
    path.unlink()
    if kind in changes:
        path.write_bytes(changes[kind])
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    return f"{path.name} {kind}"


def damage(path: Path, rng: random.Random) -> str:
    """One damage of a kind that fits the file."""
    own: Mapping[str, Callable[[Path, random.Random], str]] = {".json": damage_json, ".safetensors": damage_tensors}
    kind = own.get(path.suffix, damage_bytes)
    return (kind if rng.random() < 0.75 else damage_bytes)(path, rng)
