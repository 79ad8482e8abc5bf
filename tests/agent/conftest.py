from __future__ import annotations

from pathlib import Path

import pytest

from ..language_models import tiny_llama


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))
