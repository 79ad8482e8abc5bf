"""Pictures of the made world in shards and folders, and its encoders, loaded once."""

import functools
import io

import pytest
from PIL import Image
from textlens.encoders import registry
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from textlens.train.recaption import part_worker

from ..data.conftest import write_tar  # noqa: F401


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@functools.cache
def loaded(spec, device=None):
    return registry.load_encoder(spec, device=device)


@pytest.fixture(autouse=True)
def _encoders_once(monkeypatch):
    monkeypatch.setattr(part_worker, "load_encoder", loaded)


@functools.cache
def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(render(scene_at(number, "test"))).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def shards(tmp_path, write_tar):  # noqa: F811
    """Writes shards of so many samples each; returns the source."""

    def write(*sizes, folder="shards"):
        (tmp_path / folder).mkdir(exist_ok=True)
        number = 0
        for shard, size in enumerate(sizes):
            members = {}
            for _ in range(size):
                members |= {f"{number:06d}.png": picture(number), f"{number:06d}.txt": f"scene {number}".encode()}
                number += 1
            write_tar(tmp_path / folder / f"{shard:05d}.tar", members)
        return f"webdataset:{tmp_path / folder}/*.tar"

    return write


@pytest.fixture
def photos(tmp_path):
    """A folder of six images, without captions."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.png").write_bytes(picture(number))
    return folder
