"""The package: light to import, public names that load, and a wheel with the weights and without the tests."""

import importlib
import subprocess
import sys
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
        for line in path.read_text().splitlines():
            if line.strip().startswith("from .."):
                target = line.split()[1].lstrip(".").split(".")[0]
                assert target in LAYERS[package] | {"errors", "progress"}, f"{path}: {line}"
            assert not line.startswith(("import textlens", "from textlens")), f"{path}: imports must be relative"


def test_every_module_imports():
    for path in sorted(ROOT.glob("*/*.py")):
        if path.parent.name in {*LAYERS, "weights", "configs"}:
            importlib.import_module(f"textlens.{path.parent.name}.{path.stem}".removesuffix(".__init__"))


def test_wheel_holds_weights_and_no_tests(tmp_path):
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation")
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("textlens/cli.py", "textlens/py.typed", "textlens/configs/words.txt", "textlens/encoders/clip.py",
                   "textlens/weights/coca/open_clip_model.safetensors", "textlens/weights/coca/tokenizer.json"):  # fmt: skip
        assert needed in names
    assert not [name for name in names if "tests" in name or "benchmarks" in name or name.startswith("runs")]
    for package in ("weights", "configs"):
        here = {f"textlens/{path.relative_to(ROOT)}" for path in (ROOT / package).rglob("*") if path.is_file()}
        assert {name for name in here if "__pycache__" not in name} <= set(names)
