"""How the modules of encoders/ hang together: no import circle, hidden ones (lazy, for types alone) included."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import textlens.encoders

ROOT = Path(textlens.encoders.__file__).parent


def imported(path: Path, name: str) -> set[str]:
    """Modules of encoders/ that a file imports, wherever in it."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = resolve_name("." * node.level + (node.module or ""), package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def test_no_import_circle() -> None:
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = ("textlens", "encoders", *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = path
    graph = {name: imported(path, name) & names.keys() - {name} for name, path in names.items()}
    assert len(graph["textlens.encoders.dediffusion.dediffusion_encoder"]) > 4
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_folders_stay_small() -> None:
    for folder in (ROOT, *(path for path in ROOT.iterdir() if path.is_dir())):
        assert len(list(folder.glob("*.py"))) <= 15, folder
