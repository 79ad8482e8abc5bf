"""CoCa caption decoding with our caches against plain full-prefix greedy decoding, from the same image tokens.

    python benchmarks/captioning.py [--model coca_ViT-B-32] [--batch-sizes 1 8 32] [--max-tokens 20] [--json]

Random weights for an open_clip architecture name, a folder's own weights for a folder; `weights/scenes/coca` is
added where it exists. All ways must write the same tokens, else the exit code is 1. open_clip's `generate` joins in
where it runs: with transformers 4.49, for one, but not with 4.57 or 5, nor for a text tower without a class token, such
as that of scenes. With an older transformers before the installed one:

    pip install --target runs/transformers-4 --no-deps transformers==4.49.0 "huggingface_hub<1" "tokenizers<0.22"
    PYTHONPATH=runs/transformers-4 python benchmarks/captioning.py --batch-sizes 32
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from models import load_models, new_parser
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from torch import Tensor

Texts = list[tuple[int, ...]]


@torch.inference_mode()
def plain_greedy(clip: Clip, image_tokens: Tensor, max_tokens: int, ends: tuple[int, ...]) -> Texts:
    """The whole prefix through both text towers at each step; the image is encoded once."""
    prefix = torch.full((len(image_tokens), 1), clip.bos_id)
    ended = torch.zeros(len(image_tokens), dtype=torch.bool)
    for _ in range(max_tokens):
        tokens = prefix_tokens(clip.model.text, prefix)
        best = clip.model.text_decoder(image_tokens, tokens)[:, -1].argmax(dim=-1)
        prefix = torch.cat((prefix, best.unsqueeze(1)), dim=1)
        ended |= torch.isin(best, torch.tensor(ends))
        if ended.all():
            break
    return words_of(prefix, ends)


def prefix_tokens(text: torch.nn.Module, prefix: Tensor) -> Tensor:
    if text.cls_emb is not None:
        return text(prefix)[1]
    # Without a class token open_clip does not cut its mask to the prefix; done here, or this way would be slower still.
    length = prefix.shape[1]
    x = text.token_embedding(prefix) + text.positional_embedding[:length]
    return text.ln_final(text.transformer(x, attn_mask=text.attn_mask[:length, :length]))


@torch.inference_mode()
def open_clip_generate(clip: Clip, pixels: Tensor, max_tokens: int, ends: tuple[int, ...]) -> Texts:
    """open_clip's own: the last token of `seq_len` is always the end token, so it may write one more than that."""
    written = clip.model.generate(
        pixels,
        seq_len=max_tokens + 2,
        max_seq_len=clip.context_length,
        generation_type="top_k",
        top_k=1,
        min_seq_len=0,
        sot_token_id=clip.bos_id,
        eos_token_id=clip.eos_id,
        pad_token_id=clip.pad_id,
    )
    return words_of(written, ends)


def words_of(ids: Tensor, ends: tuple[int, ...]) -> Texts:
    rows = []
    for row in ids[:, 1:].tolist():
        stop = next((i for i, token in enumerate(row) if token in ends), len(row))
        rows.append(tuple(row[:stop]))
    return rows


def best_time(work: Callable[[], Texts], repeats: int) -> tuple[float, Texts]:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), result


def measure(clip: Clip, batch_size: int, max_tokens: int, repeats: int) -> dict:
    captioner = CocaCaptioner(clip, max_tokens=min(max_tokens, clip.context_length - 1))
    max_tokens, ends = captioner.search.max_tokens, captioner.search.end_ids
    pixels = torch.randn(batch_size, 3, *clip.image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        image_tokens = clip.model.visual(pixels)[1]
    captioner.decode(image_tokens[:1])  # warm
    cached, ours = best_time(lambda: [text.ids for text in captioner.decode(image_tokens)], repeats)
    plain, reference = best_time(lambda: plain_greedy(clip, image_tokens, max_tokens, ends), repeats)
    row = {
        "model": clip.name,
        "batch": batch_size,
        "longest": max(len(ids) for ids in reference),
        "cached_s": round(cached, 3),
        "plain_s": round(plain, 3),
        "ratio": round(plain / cached, 2),
        "same": ours == reference,
        "open_clip_s": None,
        "open_clip_same": None,
        "open_clip_error": None,
    }
    try:
        # With the image tower, which `generate` runs itself; the two others start from its output.
        theirs, written = best_time(lambda: open_clip_generate(clip, pixels, max_tokens, ends), 1)
        row |= {"open_clip_s": round(theirs, 3), "open_clip_same": written == ours}
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        row["open_clip_error"] = str(error).split("\n")[0] or type(error).__name__
    return row


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--batch-sizes", nargs="+", type=int, default=[1, 8, 32])
    args = parser.parse_args()
    if not args.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
        columns = f"{'batch':>6}{'tokens':>8}{'cached s':>10}{'plain s':>10}{'ratio':>8}{'same':>7}"
        print(f"{'model':<16}{columns}  open_clip generate")
    good = True
    for clip in load_models(args.model):
        for batch_size in args.batch_sizes:
            row = measure(clip, batch_size, args.max_tokens, args.repeats)
            good &= row["same"] and row["open_clip_same"] is not False
            print(json.dumps(row) if args.json else as_line(row), flush=True)
    sys.exit(0 if good else 1)


def as_line(row: dict) -> str:
    theirs = row["open_clip_error"] or f"{row['open_clip_s']} s, same: {row['open_clip_same']}"
    return (
        f"{Path(row['model']).name:<16}{row['batch']:>6}{row['longest']:>8}{row['cached_s']:>10}{row['plain_s']:>10}"
        f"{row['ratio']:>7}x{row['same']!s:>7}  {theirs}"
    )


if __name__ == "__main__":
    main()
