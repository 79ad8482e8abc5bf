"""The frozen decoder on disk: a pipeline's parts in float32, its noise schedule, and what is not whole refused."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler
from safetensors.torch import load_file, save_file
from textlens.errors import InputError
from textlens.train.dediffusion.frozen_decoder import FrozenDecoder

from ...pipelines import tiny_pipeline

TOKENS = "embeddings.token_embedding.weight"


@pytest.fixture
def folder(tmp_path):
    return tiny_pipeline(tmp_path / "pipeline")


def test_the_schedule_is_the_pipelines_whatever_its_sampler(folder):
    settings = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction", "num_train_timesteps": 800}
    PNDMScheduler(**settings, skip_prk_steps=True, steps_offset=1).save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("DDIMScheduler", "PNDMScheduler"))
    decoder = FrozenDecoder.from_pretrained(folder)
    assert isinstance(decoder.scheduler, DDPMScheduler)
    assert torch.equal(decoder.scheduler.alphas_cumprod, DDPMScheduler(**settings).alphas_cumprod)
    assert (decoder.scheduler.config.prediction_type, decoder.num_timesteps) == ("v_prediction", 800)
    assert decoder.image_size == 64
    assert {p.dtype for p in decoder.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in decoder.parameters())


def test_a_weight_that_is_missing_is_refused_not_made_up(folder):
    path = folder / "text_encoder" / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if k != TOKENS}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=f"lacks 1 weights, such as text_encoder.{TOKENS}"):
        FrozenDecoder.from_pretrained(folder)


def test_what_is_no_whole_pipeline_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no folder"):
        FrozenDecoder.from_pretrained(tmp_path / "none")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(InputError, match=r"tokenizer .* knows"):
        FrozenDecoder.from_pretrained(str(folder))
    shutil.rmtree(folder / "unet")
    with pytest.raises(InputError, match="does not load"):
        FrozenDecoder.from_pretrained(folder)
