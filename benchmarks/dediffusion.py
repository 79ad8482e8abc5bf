"""De-Diffusion: speed of the encoder, of its training step, memory, and what one optimises for per image without it.

    python benchmarks/dediffusion.py [encoder] [pez] [training] [memory] [--json]

encoder: images/s from pixels to words against the bare backbone's patch tokens, on the same pixels. Small: of
    scenes' settings. Real: open_clip's CoCa ViT-L/14 with the paper's 75 queries, 5 blocks of width 1024 and CLIP's
    49,408 tokens; random weights. Target: at least 0.7.
pez: against an optimiser for each image, after PEZ (Wen et al. 2023, arXiv 2302.03668) in our own few lines: soft
    words are projected onto the nearest words, and the gradient that these have towards a higher cosine with the image
    moves the soft ones. Same CLIP, same words to choose from, as many of them; all images at once, which is kinder to
    it than one by one. Time per image, the cosine, which it optimises, and F1 of the facts that the words state, on
    test scenes of 1-3 objects.
training: a training step (encoder, text encoder and U-Net forward and backward, optimizer) against text encoder and
    U-Net alone, forward and backward to soft words that are given, on the same batch of latents. Target: at most 1.25.
memory: peak of a process that makes such steps, with and without gradient checkpointing; on a CPU beyond what it held
    before the first step (Linux).

Both sides of a comparison run in turns, so that a busy machine slows both, and the best of `--repeats` counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip import get_model_config
from open_clip.tokenizer import SimpleTokenizer
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion, DediffusionConfig
from textlens.encoders.dediffusion.vocabulary import Vocabulary
from textlens.scenes.evals.redrawn import MOST_OBJECTS
from textlens.scenes.evals.testbed import first_scenes, pictures
from textlens.scenes.facts import score_texts
from textlens.scenes.source import SceneData
from textlens.train.dediffusion.decoder import Denoising
from textlens.train.dediffusion.dediffusion import DediffusionRecipe
from textlens.train.dediffusion.dediffusion_config import DediffusionTraining
from textlens.train.dediffusion.soft_tokens import mix, soft_embeddings, token_embedding
from textlens.train.engine.attention import attention_for_training
from textlens.train.engine.optimizer import build_optimizer, trainable_parameters
from textlens.train.engine.settings import read_stages
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KINDS = ("noun", "colour", "place", "background")


def seconds(works: list[Callable[[], object]], repeats: int) -> list[float]:
    """The best time of each, run in turns after a first round that warms up."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats + 1):
        for work, own in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            own.append(time.perf_counter() - start)
    return [min(own[1:]) for own in times]


# --- encoder ----------------------------------------------------------------------------------------------------------


def clip_tokenizer() -> object:
    """CLIP's own 49,408 tokens, which open_clip carries, as transformers' tokenizer."""
    from transformers import CLIPTokenizer

    carried = SimpleTokenizer()
    end = "<end_of_text>"
    special = {"bos_token": "<start_of_text>", "eos_token": end, "unk_token": end, "pad_token": end}
    return CLIPTokenizer(vocab=carried.encoder, merges=list(carried.bpe_ranks), model_max_length=77, **special)


def small_encoder(settings: DediffusionTraining) -> Dediffusion:
    clip = Clip.from_pretrained(settings.clip, device=DEVICE)
    embeddings = clip.model.text.token_embedding.weight
    return Dediffusion.new(settings.encoder, clip, clip.tokenizer.tokenizer, embeddings)


def real_encoder() -> Dediffusion:
    """The image tower has its real size; CoCa's two text towers, which take no part, are cut to one block."""
    config = get_model_config("coca_ViT-L-14")
    for tower in ("text_cfg", "multimodal_cfg"):
        config[tower]["layers"] = 1
    clip = Clip.from_config(config, name="coca_ViT-L-14, random")
    clip.model.to(DEVICE)
    return Dediffusion.new(DediffusionConfig(head="linear"), clip, clip_tokenizer())


def encoder_speed(name: str, encoder: Dediffusion, images: int, batch: int, repeats: int) -> dict:
    clip = encoder.clip
    batches = torch.rand(images, 3, *clip.image_size, device=DEVICE).split(batch)

    @torch.inference_mode()
    def bare() -> None:
        for pixels in batches:
            clip.patch_tokens(pixels, normalize=True)

    def ours() -> None:
        for pixels in batches:
            encoder.describe_pixels(pixels)

    bare_s, ours_s = seconds([bare, ours], repeats)
    row = {"what": "encoder", "size": name, "images": images, "batch": batch, "words": encoder.config.num_queries}
    rates = {"bare_images_s": round(images / bare_s, 2), "images_s": round(images / ours_s, 2)}
    return row | rates | {"ratio": round(bare_s / ours_s, 3), "target": 0.7}


# --- against an optimiser per image -----------------------------------------------------------------------------------


def pez(clip: Clip, pixels: Tensor, vocabulary: Vocabulary, length: int, steps: int) -> list[str]:
    """(B, 3, H, W) -> B texts of `length` words: of each image's, the best that came up."""
    tower = clip.model.text
    words = token_embedding(tower).weight[vocabulary.ids].detach()  # (V, D)
    directions = F.normalize(words, dim=-1)
    drawn = torch.randint(len(words), (len(pixels), length), generator=torch.Generator().manual_seed(0))
    soft = words[drawn.to(words.device)].clone().requires_grad_()  # (B, N, D)
    optimizer = torch.optim.AdamW([soft], lr=0.1, weight_decay=0.1)  # PEZ's own
    frame = clip.tokenize([" ".join([vocabulary.words[0]] * length)]).to(clip.device).expand(len(pixels), -1)
    with torch.no_grad():
        images = clip.embed_pixels(pixels)
    best = torch.full((len(pixels),), -1.0, device=clip.device)
    found = torch.zeros(len(pixels), length, dtype=torch.long, device=clip.device)
    for _ in range(steps):
        nearest = (F.normalize(soft.detach(), dim=-1) @ directions.T).argmax(-1)  # (B, N)
        with soft_embeddings(tower, soft + (words[nearest] - soft).detach()):
            cosine = (F.normalize(clip.model.encode_text(frame).float(), dim=-1) * images).sum(-1)
        better = cosine.detach() > best
        best, found = torch.where(better, cosine.detach(), best), torch.where(better[:, None], nearest, found)
        (soft.grad,) = torch.autograd.grad(-cosine.sum(), soft)  # each image's own: no mean over the batch
        optimizer.step()
    return vocabulary.texts(vocabulary.ids[found.cpu()])


def against_pez(settings: DediffusionTraining, folder: Path, number: int, steps: int) -> list[dict]:
    trained = (folder / "config.json").is_file()
    encoder = Dediffusion.from_pretrained(folder, device=DEVICE) if trained else small_encoder(settings)
    clip = Clip.from_pretrained(settings.clip, device=DEVICE)
    clip.model.requires_grad_(False)
    scenes = first_scenes(number, MOST_OBJECTS)
    images = pictures(scenes)
    pixels, embeddings = clip.pixels(images), clip.embed_images(images)
    ways: dict[str, Callable[[], list[str]]] = {
        f"De-Diffusion ({'trained' if trained else 'random weights'})": lambda: [
            one.text for one in encoder.describe_pixels(pixels)
        ],
        f"PEZ, {steps} steps": lambda: pez(clip, pixels, encoder.vocabulary, encoder.config.num_queries, steps),
        "CoCa captioner": lambda: [one.text for one in CocaCaptioner(clip, batch_size=number).describe_pixels(pixels)],
    }
    rows = []
    for name, work in ways.items():
        start = time.perf_counter()
        texts = work()
        spent = time.perf_counter() - start
        cosine = float((clip.embed_texts(texts) * embeddings).sum(1).mean())
        f1 = {kind: round(score_texts(texts, scenes)[kind].f1, 3) for kind in KINDS}
        row = {"what": "pez", "way": name, "images": number, "s_per_image": round(spent / number, 5)}
        rows.append(row | {"cosine": round(cosine, 3)} | f1 | {"example": texts[0]})
    return rows


# --- training step ----------------------------------------------------------------------------------------------------


def new_recipe(settings: DediffusionTraining, checkpointing: bool, cache: Path) -> DediffusionRecipe:
    changed = replace(settings, data=SceneData(), cache_latents=False, gradient_checkpointing=checkpointing)
    recipe = DediffusionRecipe(changed, cache)
    recipe.model.to(DEVICE).train()
    recipe.decoder.to(DEVICE)
    return recipe


def new_batch(recipe: DediffusionRecipe, size: int) -> dict[str, Tensor]:
    """With latents, as training on kept ones has it, so that the autoencoder is no part of the time."""
    batch = {name: tensor.to(DEVICE) for name, tensor in recipe.batch(range(size), 0).items()}
    return {"pixels": batch["pixels"], "latents": recipe.decoder.encode_images(batch["images"])}


def new_step(recipe: DediffusionRecipe, batch: dict[str, Tensor]) -> Callable[[], None]:
    """One whole training step."""
    loop = recipe.config.loop
    optimizer = build_optimizer(trainable_parameters(recipe.model), loop.optimizer, loop.learning_rate)

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=loop.precision == "bf16"):
            loss = recipe.loss(recipe.model, batch, step=0, indices=range(len(batch["pixels"])))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def new_reference(recipe: DediffusionRecipe, batch: dict[str, Tensor]) -> Callable[[], None]:
    """Text encoder and U-Net, forward and backward to soft words that are there from the start."""
    decoder, ids = recipe.decoder, recipe.vocabulary.ids
    shape = (len(batch["pixels"]), recipe.encoder.config.num_queries, len(ids))
    words = torch.randn(shape, device=DEVICE).softmax(-1)
    embeddings = mix(words, decoder.token_embeddings[ids]).requires_grad_()
    bf16 = recipe.config.loop.precision == "bf16"
    latents = batch["latents"]
    timesteps = torch.randint(*recipe.timesteps, (len(latents),), device=DEVICE)

    def step() -> None:
        task = Denoising(latents, torch.randn_like(latents), timesteps)
        autocast = torch.autocast(DEVICE, torch.bfloat16, enabled=bf16)
        with autocast, attention_for_training(latents.device):
            loss = task.losses(decoder, decoder.encode_soft(embeddings)).mean()
        torch.autograd.grad(loss, embeddings)

    return step


def training(settings: DediffusionTraining, size: int, repeats: int) -> list[dict]:
    with tempfile.TemporaryDirectory() as cache:
        recipe = new_recipe(settings, checkpointing=False, cache=Path(cache))
        batch = new_batch(recipe, size)
        ours, reference = seconds([new_step(recipe, batch), new_reference(recipe, batch)], repeats)
    row = {"what": "training", "batch": size, "device": DEVICE, "decoder": settings.decoder}
    figures = {"step_s": round(ours, 4), "text_encoder_and_unet_s": round(reference, 4)}
    return [row | figures | {"ratio": round(ours / reference, 3), "target": 1.25}]


# --- memory -----------------------------------------------------------------------------------------------------------


def memory_case(settings: DediffusionTraining, size: int, checkpointing: bool) -> dict:
    """In a process of its own, whose peak nothing else has touched."""
    with tempfile.TemporaryDirectory() as cache:
        recipe = new_recipe(settings, checkpointing, Path(cache))
        step = new_step(recipe, new_batch(recipe, size))
        if DEVICE == "cuda":
            torch.cuda.reset_peak_memory_stats()
            step()
            return {"peak_mb": round(torch.cuda.max_memory_allocated() / 2**20)}
        Path("/proc/self/clear_refs").write_text("5")  # count the peak from here on
        before = resident_mb("VmRSS")
        step()
        peak = resident_mb("VmHWM")
    return {"peak_mb": round(peak), "beyond_before_mb": round(peak - before)}


def resident_mb(field: str) -> float:
    """Memory of this process: now (VmRSS), or the highest it has been (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 1024


def memory(arguments: list[str], size: int) -> list[dict]:
    rows = []
    for checkpointing in (False, True):
        command = [sys.executable, __file__, *arguments, "--case", str(int(checkpointing))]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append({"what": "memory", "batch": size, "device": DEVICE, "checkpointing": checkpointing} | found)
    return rows


# --- command line -----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("encoder", "pez", "training", "memory")
    parser.add_argument("parts", nargs="*", choices=[*parts, []], default=[], help="all unless named")
    parser.add_argument(
        "--config", type=Path, default=ROOT / "scenes/configs/dediffusion.yaml", help="of the recipe; its first stage"
    )
    parser.add_argument("--decoder", help="instead of the one that the settings name")
    parser.add_argument(
        "--weights", type=Path, default=ROOT / "weights" / "scenes" / "dediffusion", help="encoder to set beside PEZ"
    )
    parser.add_argument("--images", type=int, default=256, help="for the small encoder")
    parser.add_argument("--real-images", type=int, default=4, help="for the real encoder; 0 leaves it out")
    parser.add_argument("--pez-images", type=int, default=32)
    parser.add_argument("--pez-steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=64, help="of training steps")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many runs")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    settings = read_stages(args.config, Path("runs"))[0].settings(DediffusionTraining, args.config)
    settings = replace(settings, decoder=args.decoder or settings.decoder)
    if args.case is not None:
        print(json.dumps(memory_case(settings, args.batch_size, bool(args.case))))
        return

    def encoder() -> list[dict]:
        rows = [encoder_speed("small", small_encoder(settings), args.images, 64, args.repeats)]
        if args.real_images:
            rows.append(encoder_speed("real", real_encoder(), args.real_images, 4, args.repeats))
        return rows

    passed_on = ["--config", str(args.config), "--batch-size", str(args.batch_size), "--decoder", settings.decoder]
    run = {
        "encoder": encoder,
        "pez": lambda: against_pez(settings, args.weights, args.pez_images, args.pez_steps),
        "training": lambda: training(settings, args.batch_size, args.repeats),
        "memory": lambda: memory(passed_on, args.batch_size),
    }
    if not args.json:
        print(f"torch {torch.__version__}, {DEVICE}, {torch.get_num_threads()} threads")
    for part in args.parts or parts:
        for row in run[part]():
            print(json.dumps(row) if args.json else "  ".join(f"{k}={v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
