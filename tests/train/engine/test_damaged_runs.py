"""A damaged run is refused by name when it is to go on: its checkpoints, its metrics, the record of its start."""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from textlens.errors import InputError, TextlensError
from textlens.scenes.included import __file__ as scenes_file
from textlens.train.coca import CocaRecipe
from textlens.train.engine.loop import train
from textlens.train.engine.run import run_file
from textlens.train.engine.settings import read_stages

from ...damage import WRONG, damage, damage_bytes, places, replaced, without
from .test_run import StartedRecipe
from .tiny_recipe import MEAN, TinyRecipe

CONFIG = replace(MEAN, steps=3, save_every=2)
COCA = Path(scenes_file).parent / "configs" / "coca.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped after two of three steps."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(TinyRecipe(), CONFIG, out, max_minutes=0)
    return out


def test_damaged_checkpoints_are_refused_or_harmless(run: Path) -> None:
    names = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file())
    assert {"state.json", "model.safetensors", "metrics.jsonl"} <= {path.name for path in names}
    for seed in range(60):
        rng, copy = random.Random(seed), run.with_name("damaged")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(run, copy)
        what = damage(copy / rng.choice(names), rng)
        try:
            train(TinyRecipe(), CONFIG, copy, resume=True)
        except TextlensError:
            continue
        except Exception as error:
            pytest.fail(f"seed {seed}, {what}: {error!r}")


def test_damaged_settings_are_refused_by_file_or_harmless(tmp_path: Path) -> None:
    tree, path = yaml.safe_load(COCA.read_text()), tmp_path / "damaged.yaml"
    for seed in range(150):
        rng = random.Random(seed)
        path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
        place = rng.choice(list(places(tree)))
        wrong = rng.choice(WRONG)
        changed = without(tree, place) if rng.random() < 0.2 else replaced(tree, place, wrong)
        path.write_text(yaml.safe_dump(changed, allow_unicode=False))
        what = f"{place} = {wrong!r}" if rng.random() < 0.8 else damage_bytes(path, rng)
        try:
            for stage in read_stages(path, tmp_path / "out"):
                stage.settings(CocaRecipe.config_class, path)
        except InputError as error:
            if "damaged.yaml" not in str(error) and "base" not in what:
                pytest.fail(f"seed {seed}, {what}: the error does not name the file: {error}")
        except Exception as error:
            pytest.fail(f"seed {seed}, {what}: {error!r}")


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff", '{"a": NaN}'])
def test_a_damaged_record_is_refused_before_any_training(text: str, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "training.json").write_bytes(text.encode(errors="surrogateescape"))
    path = tmp_path / "tiny.yaml"
    path.write_text(f"loop: {{ steps: 2, batch_size: 4 }}\nstart: {tmp_path / 'start'}")
    with pytest.raises(InputError, match=r"start/training\.json"):
        run_file(StartedRecipe, path, tmp_path / "out")
    assert not (tmp_path / "out" / "metrics.jsonl").exists()
