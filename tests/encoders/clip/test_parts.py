"""Models that registry packages hold."""

import pytest
from textlens.encoders.clip.parts import PACKAGES, load_transformer
from textlens.errors import InputError
from textlens.train.dediffusion.token_states import TokenStates


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_with_other_weights_is_refused(name, tmp_path, monkeypatch):
    package = PACKAGES[name]
    weights = tmp_path / package.module / package.folder / "model.safetensors"
    weights.parent.mkdir(parents=True)
    (tmp_path / package.module / "__init__.py").touch()
    weights.write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    for load in (load_transformer, lambda name: TokenStates.from_pretrained(name, 16)):
        with pytest.raises(InputError, match=rf"model.safetensors is damaged.*expected {package.sha256}"):
            load(name)
