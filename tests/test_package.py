"""The package: light to import, public names that load, and a wheel with the weights and without the tests."""

import importlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import textlens

ROOT = Path(textlens.__file__).parent
LAYERS = {  # what each package may import of ours; the leaves errors.py and progress.py are open to all
    "encoders": {"encoders"},
    "prompting": {"prompting"},
    "agent": {"agent", "encoders", "prompting"},
    "train": {"train", "encoders", "prompting"},
    "evals": {"evals", "train", "agent", "encoders", "prompting"},
    "scenes": {"scenes", "evals", "train", "agent", "encoders", "prompting"},
}


def test_import_is_light():
    code = "import sys, textlens; textlens.Scene; textlens.InputError; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", textlens.__all__)
def test_public_names_load(name):
    assert getattr(textlens, name) is not None


def test_unknown_name_is_an_attribute_error_that_lists_the_names():
    with pytest.raises(AttributeError, match="load_encoder"):
        _ = textlens.no_such_name


@pytest.mark.parametrize("package", LAYERS)
def test_no_import_runs_upwards(package):
    for path in (ROOT / package).rglob("*.py"):
        depth = len(path.relative_to(ROOT).parts) - 1  # dots that lead to the root, less one
        for line in path.read_text().splitlines():
            dots = re.match(rf"\s*from \.{{{depth + 1}}}(\w+)", line)
            if dots:
                assert dots[1] in LAYERS[package] | {"errors", "progress"}, f"{path}: {line}"
            assert not line.startswith(("import textlens", "from textlens")), f"{path}: imports must be relative"


def test_every_module_imports():
    for package in (*LAYERS, "weights", "configs"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(("textlens", *path.relative_to(ROOT).with_suffix("").parts))
            importlib.import_module(name.removesuffix(".__init__"))


def build(kind: str, source: Path) -> Path:
    """Build an sdist or a wheel of the project in `source`, in this environment, and return the file."""
    code = f"import setuptools.build_meta as backend; print('built', backend.build_{kind}('dist'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True)
    return source / "dist" / done.stdout.rpartition("built ")[2].strip()


def test_sdist_builds_a_wheel_with_the_weights_and_without_tests(tmp_path):
    here = shutil.ignore_patterns(".*", "runs", "build", "dist", "demo", "*.egg-info", "__pycache__")
    source = shutil.copytree(ROOT, tmp_path / "source", ignore=here)
    with tarfile.open(build("sdist", source)) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    names = set(zipfile.ZipFile(build("wheel", unpacked)).namelist())
    data = {
        path
        for package in ("weights", "configs", "scenes/configs")
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert {f"textlens/{path.relative_to(source)}" for path in data} <= names
    assert {"textlens/cli.py", "textlens/py.typed", "textlens/weights/coca/open_clip_model.safetensors"} <= names
    assert not [name for name in names if name.startswith(("tests", "textlens/tests", "textlens/benchmarks", "runs"))]
