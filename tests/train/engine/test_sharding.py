"""`loop.sharding` over two gloo processes of torchrun against one process, started once for all that is compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.decap_encoder import Decap
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion
from textlens.encoders.redraw.stable_diffusion import load_pipeline
from textlens.errors import InputError
from textlens.train.engine.loop import train
from textlens.train.engine.metrics_file import read_metrics
from textlens.train.registry import recipes, run_recipe
from torch import nn

from .recipe_files import write_recipe_files
from .test_distributed import SECONDS, assert_close_run, figures, report, tensors, torchrun
from .tiny_recipe import CONTRASTIVE, MEAN, ContrastiveRecipe, TiedRecipe, TinyRecipe

LOADERS = {
    "coca": Clip.from_pretrained,
    "decap": Decap.from_pretrained,
    "dediffusion": Dediffusion.from_pretrained,
    "text-to-image": load_pipeline,
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes trained (see sharded_processes.py), and what they start from."""
    out = tmp_path_factory.mktemp("sharded")
    write_recipe_files(out)
    (out / "full").mkdir()
    for name in recipes():
        settings = yaml.safe_load((out / f"{name}.yaml").read_text())
        settings["loop"]["sharding"] = "full"
        (out / "full" / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        run_recipe(name, out / f"{name}.yaml", out / "sharded" / name, max_minutes=0)
    launched = torchrun(Path(__file__).with_name("sharded_processes.py"), out)
    told, _ = launched.communicate(timeout=SECONDS)
    assert launched.returncode == 0, told
    return out


def saved_weights(model: Path) -> dict[str, torch.Tensor]:
    """Without attention's biases: that of the keys has no gradient but rounding, of which Adam makes whole steps."""
    found = {path.relative_to(model): load_file(path) for path in sorted(model.rglob("*.safetensors"))}
    every = {f"{path}/{name}": tensor.float() for path, named in found.items() for name, tensor in named.items()}
    return {name: tensor for name, tensor in every.items() if not name.endswith(("in_proj_bias", "c_attn.bias"))}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_trains_sharded_as_in_one_process_and_resumes_either_way(two: Path, name: str) -> None:
    """sharded: one step by one process, two by two. unsharded: one by one, one sharded by two, one by one."""
    one = run_recipe(name, two / f"{name}.yaml", two / "one" / name)
    assert run_recipe(name, two / f"{name}.yaml", two / "unsharded" / name, resume=True).finished
    names = one.metrics.keys() - {"kind", "step", "samples_per_second", "elapsed"}
    assert {"loss", "gradient_norm"} <= names
    for other in ("sharded", "unsharded"):
        torch.testing.assert_close(
            figures(two / other / name, *names), figures(two / "one" / name, *names), rtol=1e-4, atol=1e-6
        )
        evaluated = [line for line in read_metrics(two / other / name) if line["kind"] == "eval"]
        assert len(evaluated) == bool(one.evaluation)
        for figure in one.evaluation.keys() - {"kind", "step", "elapsed"}:
            assert evaluated[0][figure] == pytest.approx(one.evaluation[figure], rel=1e-3, abs=1e-5), figure


@pytest.mark.parametrize("name", sorted(LOADERS))
def test_the_model_of_a_sharded_run_loads_and_is_that_of_one_process(two: Path, name: str) -> None:
    run_recipe(name, two / f"{name}.yaml", two / "one" / name, resume=True)
    found, expected = (saved_weights(two / run / name / "model") for run in ("sharded", "one"))
    assert found.keys() == expected.keys()
    assert found
    for key in found:  # they are saved in half precision
        torch.testing.assert_close(found[key], expected[key], rtol=1e-2, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}")
    LOADERS[name](str(two / "sharded" / name / "model"))


def test_each_process_holds_its_share(two: Path) -> None:
    """About half of everything: rows are not split, and scalars are whole."""
    shares = [report(two, rank)["held"] for rank in range(2)]
    for kind in ("parameters", "gradients", "optimizer", "average"):
        held = [share[kind] for share in shares]
        assert 1 <= sum(held) < 1.001
        assert max(held) < 0.6, kind


def test_clipping_takes_the_norm_over_all_shards_and_averages_follow(two: Path, tmp_path: Path) -> None:
    train(TinyRecipe(dropout=0.0), replace(MEAN, gradient_clip=0.1), tmp_path)
    names = ("loss", "absolute_error", "gradient_norm", "learning_rate")
    assert figures(tmp_path, "gradient_norm").min() > 0.1
    torch.testing.assert_close(figures(two / "mean", *names), figures(tmp_path, *names), rtol=1e-5, atol=1e-6)
    assert_close_run(two / "mean", tmp_path)
    assert any(name.startswith("ema/") for name in tensors(two / "mean"))
    errors = [
        [line["error"] for line in read_metrics(out) if line["kind"] == "eval"] for out in (two / "mean", tmp_path)
    ]
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_a_weight_of_two_layers_stays_one(two: Path, tmp_path: Path) -> None:
    train(TiedRecipe(), MEAN, tmp_path)
    names = ("loss", "gradient_norm")
    torch.testing.assert_close(figures(two / "tied", *names), figures(tmp_path, *names), rtol=1e-5, atol=1e-6)
    assert_close_run(two / "tied", tmp_path)


def test_a_contrastive_loss_gives_the_gradient_of_one_process(two: Path, tmp_path: Path) -> None:
    train(ContrastiveRecipe(), CONTRASTIVE, tmp_path)
    names = ("loss", "gradient_norm")
    torch.testing.assert_close(figures(two / "contrastive", *names), figures(tmp_path, *names), rtol=1e-4, atol=1e-6)
    assert_close_run(two / "contrastive", tmp_path)


def test_sharded_processes_resume_to_the_bit(two: Path) -> None:
    whole, paused = tensors(two / "whole"), tensors(two / "paused")
    assert whole.keys() == paused.keys()
    assert [name for name in whole if not torch.equal(whole[name], paused[name])] == []


def test_a_loss_that_breaks_in_one_process_stops_both(two: Path) -> None:
    assert all("step 4: the loss is nan" in report(two, rank)["failure"] for rank in range(2))


@pytest.mark.parametrize("optimizer", ["adafactor", "muon"])
def test_an_optimizer_that_needs_whole_matrices_is_refused(optimizer: str) -> None:
    with pytest.raises(InputError, match=f"optimizer {optimizer}; expected adamw"):
        replace(MEAN, sharding="full", optimizer=optimizer)


def test_one_process_trains_as_without_sharding(tmp_path: Path) -> None:
    recipe = TinyRecipe()
    train(recipe, replace(MEAN, sharding="full"), tmp_path / "full")
    train(TinyRecipe(), MEAN, tmp_path / "none")
    full, none = tensors(tmp_path / "full"), tensors(tmp_path / "none")
    assert [name for name in none if not torch.equal(full[name], none[name])] == []
    assert all(type(parameter) is nn.Parameter for parameter in recipe.model.parameters())
