"""Pictures of one colour, told apart by it, as files, shards and rows."""

import io
import json
import tarfile

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def png():
    """The bytes of a small picture whose colour says its number."""

    def make(number: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (4 + number % 3, 5), (number % 256, number // 256, 7)).save(out, "PNG")
        return out.getvalue()

    return make


@pytest.fixture
def write_tar():
    """Writes {name of a member: content} as a tar file."""

    def write(path, members):
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def shards(tmp_path, png, write_tar):
    """Five shards of 7, 20, 1, 12 and 10 samples: 50 in all."""
    number = 0
    for shard, count in enumerate((7, 20, 1, 12, 10)):
        members = {}
        for _ in range(count):
            members |= {f"{number:03d}.png": png(number), f"{number:03d}.txt": f"picture {number}".encode()}
            number += 1
        write_tar(tmp_path / f"s-{shard:02d}.tar", members)
    return tmp_path
