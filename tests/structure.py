"""The structure of the package as its source text has it. `python tests/structure.py` prints the figures.

Lines of source without tests, files of each folder, modules of one name, import circles, and modules outside `scenes/`
that name it.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("commands", "encoders", "prompting", "metrics", "agent", "train", "evals", "scenes")
ROLES = {"__init__", "base", "registry"}  # names that several packages may use


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name below `textlens` -> file, of everything that is installed."""
    files = [*root.glob("*.py"), *(path for package in PACKAGES for path in (root / package).rglob("*.py"))]
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in files}


def imports(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """The modules of ours that a module imports, wherever in its text; not those for type checkers alone."""
    package = name.split(".")[:-1]
    found = set()
    for node in _running(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        for candidate in (".".join(base), *(".".join([*base, alias.name]) for alias in node.names)):
            found |= {candidate} & set(known)
    return found - {name}


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _running(node)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, by whatever way (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in graph[name]:
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for name in graph:
        if name not in order:
            visit(name)
    return groups


def import_graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports(name, path, known) for name, path in known.items()}


def shared_names() -> dict[str, list[str]]:
    """Basenames that two modules have, roles apart."""
    by_name = defaultdict(list)
    for name in modules():
        by_name[name.split(".")[-1]].append(name)
    return {name: found for name, found in by_name.items() if len(found) > 1 and name not in ROLES}


def naming_scenes() -> list[str]:
    """Modules outside `scenes/` whose text has its name as an import, a path or a string."""
    pattern = re.compile(r"\.scenes\b|\"scenes\"|'scenes'|\bscenes/")
    return [name for name, path in modules().items() if path.parts[-2] != "scenes" and not name.startswith("scenes.")
            and pattern.search(path.read_text())]  # fmt: skip


def files_per_folder() -> Counter[str]:
    """How many modules each folder holds, `__init__.py` apart."""
    return Counter(str(path.parent.relative_to(ROOT)) for path in modules().values() if path.stem != "__init__")


def lines_of_source() -> Counter[str]:
    """Lines of Python by top folder, tests apart, of what git tracks."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines: Counter[str] = Counter()
    for name in listed.splitlines():
        if not name.startswith("tests/"):
            lines[name.split("/")[0] if "/" in name else "."] += len((ROOT / name).read_text().splitlines())
    return lines


def main() -> None:
    lines = lines_of_source()
    print(f"lines of source without tests: {sum(lines.values())} ({dict(lines.most_common())})")
    print(f"modules in a folder: {dict(files_per_folder().most_common())}")
    print(f"import circles: {circles(import_graph())}")
    print(f"names of two modules: {shared_names()}")
    print(f"modules outside scenes/ that name it: {naming_scenes()}")


if __name__ == "__main__":
    main()
