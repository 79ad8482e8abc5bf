"""Latents kept on disk: made once for all, made again where they no longer fit, and clear about unreadable items."""

import json
import multiprocessing
import os

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from textlens.errors import InputError
from textlens.scenes import source as scene_source
from textlens.scenes.source import SceneData
from textlens.train.data import latents
from textlens.train.data.base import DataSource
from textlens.train.data.latents import LatentCache, encode
from textlens.train.data.pixels import pixels

from ..tiny_source import TinyData, TinySource


def tiny_vae(seed: int = 0, **settings) -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            sample_size=16, block_out_channels=(4, 4), norm_num_groups=2, latent_channels=3, scaling_factor=2.5,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            mid_block_add_attention=False, **settings,
        )  # fmt: skip
    return vae.eval()


def scenes(number: int = 20, **settings) -> DataSource:
    return SceneData(number=number, **settings).open(image_size=16)


def photos(**settings) -> TinySource:
    return TinyData(**settings).open(image_size=16)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return tiny_vae()


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many images each call of `encode` was given; it grows."""
    calls: list[int] = []

    def counted(vae, images):
        calls.append(len(images))
        return encode(vae, images)

    monkeypatch.setattr(latents, "encode", counted)
    return calls


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("source", [scenes(), photos()])
def test_latents_are_the_scaled_means_of_the_items(source, vae, tmp_path):
    kept = LatentCache(source, vae, 16, tmp_path)
    images = pixels([source.read(row, 99, 5).image for row in (4, 0, 19)], 16)
    with torch.no_grad():
        expected = 2.5 * vae.encode(images).latent_dist.mean
    found = kept.latents([4, 0, 19])
    assert found.shape == (3, 3, 8, 8)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(encode(vae, images), expected)
    assert found.std() > 0.1


def test_they_are_made_once_whatever_the_captions(vae, tmp_path, encoded):
    first = LatentCache(scenes(200), vae, 16, tmp_path)
    assert sum(encoded) > 200
    encoded.clear()
    again = LatentCache(scenes(200, styles={"short": 1.0}), vae, 16, tmp_path)
    assert again.path == first.path
    assert sum(encoded) < 10  # a few rows to see that they fit
    assert torch.equal(again.latents(range(200)), first.latents(range(200)))
    assert [name for name in names(tmp_path) if name.endswith(".npy")] == [first.path.name]


def test_other_items_sizes_and_autoencoders_have_files_of_their_own(vae, tmp_path):
    scaled = tiny_vae()
    scaled.register_to_config(scaling_factor=1.0)
    caches = [
        LatentCache(source, model, size, tmp_path)
        for source, model, size in (
            (scenes(), vae, 16),
            (scenes(21), vae, 16),
            (scenes(one_object=0.5), vae, 16),
            (photos(), vae, 16),
            (photos(), vae, 32),
            (scenes(), tiny_vae(1), 16),
            (scenes(), scaled, 16),
        )
    ]
    assert len({cache.path for cache in caches}) == len(caches)
    assert caches[4].latents([0]).shape == (1, 3, 16, 16)


def test_latents_of_other_images_are_made_again(vae, tmp_path, monkeypatch):
    draw = scene_source.render
    monkeypatch.setattr(scene_source, "render", lambda scene, size: 255 - draw(scene, size))
    before = LatentCache(scenes(), vae, 16, tmp_path)
    old = before.latents(range(20))
    monkeypatch.undo()
    after = LatentCache(scenes(), vae, 16, tmp_path)
    assert after.path == before.path
    assert not torch.allclose(after.latents(range(20)), old, atol=0.05)
    assert torch.equal(before.latents(range(20)), old)  # who reads the old file is not disturbed


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "list", "rows"])
def test_a_damaged_cache_is_made_again(vae, tmp_path, damage):
    cache = LatentCache(photos(), vae, 16, tmp_path)
    right, content = cache.latents(range(40)).clone(), cache.path.read_bytes()
    (listed,) = tmp_path.glob("*.json")
    if damage == "list":
        listed.write_text("{")
    elif damage == "rows":
        np.save(cache.path, np.zeros((40, 3, 8, 8), np.float16))
    else:
        cache.path.write_bytes({"cut": content[:-100], "empty": b"", "noise": os.urandom(500)}[damage])
    assert torch.equal(LatentCache(photos(), vae, 16, tmp_path).latents(range(40)), right)


def test_unreadable_items_are_known_to_every_run(vae, tmp_path, encoded):
    for _ in range(2):
        source = photos(bad=(0, 7, 39), max_bad=0.1)
        cache = LatentCache(source, vae, 16, tmp_path)
        assert source.unreadable == {row: f"tiny/{row:03d}.png: damaged" for row in (0, 7, 39)}
        rows = {source.sample(index, 0, image=False).row for index in range(40)}
        assert len(rows) > 30
        assert rows.isdisjoint(source.unreadable)
        assert "tiny/007.png: damaged" in source.take_skipped()
        assert cache.latents([1, 38]).std() > 0.1
    assert sum(encoded) < 60  # the second run made none


def test_too_many_unreadable_items_stop_it_early(vae, tmp_path, encoded):
    with pytest.raises(InputError, match=r"64 of 640 items .* max_bad=0.01 .* tiny/000.png: damaged"):
        LatentCache(photos(size=640, bad=range(640)), vae, 16, tmp_path)
    assert not list(tmp_path.glob("*.npy"))


def test_a_killed_write_leaves_no_file_of_that_name(vae, tmp_path, monkeypatch):
    calls = []

    def killed(*args):
        calls.append(args)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(latents, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        LatentCache(scenes(200), vae, 16, tmp_path)
    assert [name for name in names(tmp_path) if not name.endswith(".lock")] == []


def test_of_several_processes_one_encodes(vae, tmp_path):
    with multiprocessing.get_context("fork").Pool(3) as pool:
        written = pool.map(_written, [tmp_path] * 3, chunksize=1)
    assert len(set(written)) == 1  # nobody wrote it again: path, time and content are the same to all


def _written(folder) -> tuple[str, int, float]:
    torch.set_num_threads(1)
    cache = LatentCache(photos(), tiny_vae(), 16, folder)
    return str(cache.path), cache.path.stat().st_mtime_ns, float(cache.latents(range(40)).sum())


def test_no_end_and_no_space_are_errors(vae, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no end"):
        LatentCache(scenes(0), vae, 16, tmp_path)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"latents of 40 items take .* cache_latents"):
        LatentCache(photos(), vae, 16, tmp_path)


def test_the_list_beside_the_latents_names_row_and_reason(vae, tmp_path):
    LatentCache(photos(bad=(3,), max_bad=0.1), vae, 16, tmp_path)
    (listed,) = tmp_path.glob("*.json")
    assert json.loads(listed.read_text()) == {"3": "tiny/003.png: damaged"}
