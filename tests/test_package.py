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
from textlens import plugins

from . import structure

ROOT = Path(textlens.__file__).parent
LAYERS = {  # what each package may import of ours; the leaves at the top are open to all
    "encoders": set(),
    "prompting": set(),
    "metrics": set(),
    "agent": {"encoders", "prompting"},
    "train": {"encoders", "prompting", "metrics"},
    "evals": {"agent", "encoders", "prompting", "metrics", "train"},
    "commands": {"agent", "encoders", "prompting", "metrics", "train", "evals"},
    "scenes": {"agent", "encoders", "prompting", "metrics", "train", "evals"},
}
LEAVES = {"cache", "errors", "folder_lock", "input_files", "output_files", "progress", "plugins"}


def test_import_is_light():
    code = "import sys, textlens, textlens.cli; textlens.InputError; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", textlens.__all__)
def test_public_names_load(name):
    assert getattr(textlens, name) is not None


def test_unknown_name_is_an_attribute_error_that_lists_the_names():
    with pytest.raises(AttributeError, match="load_encoder"):
        _ = textlens.no_such_name


@pytest.mark.parametrize("package", LAYERS)
def test_no_import_runs_upwards(package):
    for name, targets in structure.import_graph().items():
        if name.startswith(f"{package}."):
            allowed = LAYERS[package] | LEAVES | {package}
            assert {target.split(".")[0] for target in targets} <= allowed, name


def test_imports_within_the_package_are_relative():
    for path in structure.modules().values():
        assert not re.search(r"^ *(import|from) textlens", path.read_text(), re.MULTILINE), path


def test_no_modules_import_one_another_in_a_circle():
    assert structure.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c"]]
    assert structure.circles(structure.import_graph()) == []


def test_the_made_world_is_a_plug_in_that_one_line_names():
    assert structure.naming_scenes() == ["plugins"]
    assert "textlens.scenes" in plugins.PLUGINS


def test_a_name_means_one_module():
    assert structure.shared_names() == {}


def test_no_folder_is_a_heap():
    assert max(structure.files_per_folder().values()) <= 15


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
        for package in ("weights", "configs", "scenes/configs", "scenes/eval_tasks", "evals/tasks", "evals/report")
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    assert {f"textlens/{path.relative_to(source)}" for path in data} <= names
    assert {"textlens/cli.py", "textlens/py.typed", "textlens/weights/scenes/coca/open_clip_model.safetensors"} <= names
    assert "textlens/prompting/caption_lexicon.toml" in names
    assert not [name for name in names if name.startswith(("tests", "textlens/tests", "textlens/benchmarks", "runs"))]
