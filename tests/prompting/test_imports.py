from __future__ import annotations

import subprocess
import sys


def test_prompting_imports_no_heavy_library_and_nothing_of_ours_but_leaves() -> None:
    """Run where no test has imported anything yet."""
    code = (
        "import sys, pkgutil, importlib, textlens.prompting as package\n"
        "for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'langchain_core', 'open_clip', 'lemminflect', 'spacy'}\n"
        "print(sorted(roots & heavy))\n"
        "print(sorted(name for name in sys.modules if name.startswith('textlens.') and 'prompting' not in name))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "['textlens.errors', 'textlens.input_files']"]
