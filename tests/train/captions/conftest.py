"""A cache of each test's own, and a small data set with synthetic captions beside it."""

import pytest

from .captioned_data import write_shards, write_synthetic


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def spec(tmp_path):
    return write_shards(tmp_path)


@pytest.fixture
def synthetic(tmp_path):
    return write_synthetic(tmp_path / "synthetic")
