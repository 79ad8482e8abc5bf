"""The scene set: which sample shows which scene; its latents: made once, and made again where they no longer fit."""

import os
import random
from collections import Counter

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from textlens.errors import InputError
from textlens.scenes.captions import descriptive
from textlens.train.data import latents
from textlens.train.data.latents import LatentScenes, SceneSet, encode
from textlens.train.data.pixels import pixels

STYLES = {"descriptive": 0.5, "loose": 0.5}


def tiny_vae(seed: int = 0, **settings) -> AutoencoderKL:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            sample_size=16, block_out_channels=(4, 4), norm_num_groups=2, latent_channels=3, scaling_factor=2.5,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            mid_block_add_attention=False, **settings,
        )  # fmt: skip
    return vae.eval()


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return tiny_vae()


@pytest.fixture(scope="module")
def scenes() -> SceneSet:
    return SceneSet(20, STYLES, size=16)


def test_each_epoch_shows_every_scene_once_in_another_order(scenes):
    epochs = [[scenes.row(index, 7) for index in range(20 * e, 20 * e + 20)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(20))
    assert epochs[0] != epochs[1]
    assert [scenes.row(index, 8) for index in range(20)] != epochs[0]


def test_scenes_do_not_depend_on_how_many_there_are(scenes):
    assert SceneSet(5, STYLES).scene(3) == scenes.scene(3)
    assert scenes.scene(3) != SceneSet(5, STYLES, split="val").scene(3)


def test_captions_are_true_and_drawn_anew(scenes):
    texts = {scenes.caption(3, index, 0) for index in range(30)}
    assert len(texts) > 5
    assert descriptive(scenes.scene(3), random.Random(0)) in texts
    assert scenes.caption(3, 4, 0) == scenes.caption(3, 4, 0)


def test_share_of_scenes_with_one_object():
    def share(one_object: float) -> float:
        some = SceneSet(400, STYLES, one_object=one_object)
        return sum(len(some.scene(row).objects) == 1 for row in range(400)) / 400

    assert share(0.0) == pytest.approx(0.25, abs=0.07)
    assert share(0.6) == pytest.approx(0.7, abs=0.07)
    assert share(1.0) == 1


def test_curriculum_limits_the_objects_until_its_sample():
    some = SceneSet(200, STYLES, curriculum={1: 100, 2: 300})
    seen = [len(some.scene(some.row(index, 0)).objects) for index in range(600)]
    assert set(seen[:100]) == {1}
    assert set(seen[100:300]) == {1, 2}
    assert set(seen[300:]) == {1, 2, 3, 4}
    rows = Counter(some.row(index, 0) for index in range(100))
    assert max(rows.values()) - min(rows.values()) <= 1 + 100 // len(rows)


def test_latents_are_the_scaled_means_of_the_scenes(scenes, vae, tmp_path):
    kept = LatentScenes(scenes, vae, tmp_path)
    images = pixels([scenes.image(row) for row in (4, 0, 19)], 16)
    with torch.no_grad():
        expected = 2.5 * vae.encode(images).latent_dist.mean
    found = kept.latents([4, 0, 19])
    assert found.shape == (3, 3, 8, 8)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(encode(vae, images), expected)
    assert found.std() > 0.1


def test_latents_are_made_once_whatever_the_captions(scenes, vae, tmp_path, monkeypatch):
    path = LatentScenes(scenes, vae, tmp_path).path
    written = path.stat().st_mtime_ns
    monkeypatch.setattr(LatentScenes, "_write", None)  # making them again would fail
    again = LatentScenes(SceneSet(20, {"short": 1.0}, size=16), vae, tmp_path)
    assert again.path == path
    assert path.stat().st_mtime_ns == written
    assert isinstance(again._rows, np.memmap)
    assert os.listdir(tmp_path) == [path.name]


def test_other_scenes_and_other_autoencoders_have_files_of_their_own(scenes, vae, tmp_path):
    sets = [scenes, SceneSet(21, STYLES, size=16), SceneSet(20, STYLES, size=16, one_object=0.5)]
    paths = {LatentScenes(some, vae, tmp_path).path for some in sets}
    paths.add(LatentScenes(scenes, tiny_vae(1), tmp_path).path)
    scaled = tiny_vae()
    scaled.register_to_config(scaling_factor=1.0)
    paths.add(LatentScenes(scenes, scaled, tmp_path).path)
    assert len(paths) == 5


def test_latents_of_another_drawing_are_made_again(scenes, vae, tmp_path, monkeypatch):
    draw = latents.render
    monkeypatch.setattr(latents, "render", lambda scene, size: 255 - draw(scene, size))
    before = LatentScenes(scenes, vae, tmp_path)
    old = before.latents(range(20))
    monkeypatch.undo()
    after = LatentScenes(scenes, vae, tmp_path)
    assert after.path == before.path
    assert not torch.allclose(after.latents(range(20)), old, atol=0.05)
    assert torch.equal(before.latents(range(20)), old)  # who reads the old file is not disturbed


def test_a_killed_write_leaves_no_file_of_that_name(scenes, vae, tmp_path, monkeypatch):
    calls = []

    def encoded(*args):
        calls.append(args)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(latents, "encode", encoded)
    with pytest.raises(KeyboardInterrupt):
        LatentScenes(SceneSet(200, STYLES, size=16), vae, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_bad_sets_are_errors():
    for settings, message in (
        ({"styles": {"poetic": 1.0}}, "poetic"),
        ({"number": 0}, "0 scenes"),
        ({"one_object": 1.5}, "1.5"),
        ({"curriculum": {5: 10}}, "from 1 to 4"),
    ):
        with pytest.raises(InputError, match=message):
            SceneSet(**({"number": 4, "styles": STYLES} | settings))


def test_a_curriculum_needs_scenes_to_show(monkeypatch):
    monkeypatch.setattr(SceneSet, "_draw_number", lambda scenes, rng: 4)
    with pytest.raises(InputError, match="more scenes"):
        SceneSet(3, STYLES, curriculum={3: 10})
