"""DeCap against the official algorithm, written plainly: decoding, projection onto the memory, training. And our code
against the library's: `generate` (transformers' `generate(inputs_embeds=...)`), `attention` (torch's attention).

    python benchmarks/decap.py [decoding] [projection] [training] [generate] [attention] [--quick] [--json]
    python benchmarks/decap.py memory [--quick]    # describe with 3,000,000 captions: writes 6 GB, and removes them

Random weights of the official size (GPT-2 of 4 layers, width 768, 50,257 tokens; CLIP ViT-B/32). They hardly ever
write an end token, so that all captions have `--max-tokens` tokens. Both sides run in one call, on the same inputs.
Peak memory is read from /proc (Linux).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from textlens.encoders.clip.clip import Clip
from textlens.encoders.decap.decap_checkpoint import DecapConfig, save_decoder
from textlens.encoders.decap.decap_decoder import DecapDecoder
from textlens.encoders.decap.decap_encoder import Decap
from textlens.encoders.decap.memory import CHECKED, EMBEDDINGS_NAME, SupportMemory
from textlens.encoders.decap.projection import project
from textlens.encoders.images import load_image
from textlens.encoders.registry import load_encoder
from textlens.train.data.caption_ids import IGNORED, padded
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config

END = 49407


@dataclass(frozen=True)
class Sizes:
    """The official ones, or tiny ones to see that everything runs."""

    width: int = 768
    vocabulary: int = 50257
    embed_dim: int = 512
    clip: str | dict = "ViT-B-32"
    entries: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    batches: tuple[int, ...] = (1, 256)
    steps: int = 5


TINY_CLIP = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
QUICK = Sizes(width=64, vocabulary=49408, clip=TINY_CLIP, entries=(1000, 10_000), batches=(1, 16), steps=2)


def new_decoder(sizes: Sizes) -> DecapDecoder:
    special = {"bos_token_id": END - 1, "eos_token_id": END}
    config = GPT2Config(vocab_size=sizes.vocabulary, n_embd=sizes.width, n_layer=4, n_head=4, **special)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DecapDecoder(sizes.embed_dim, config, END)


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def compared(name: str, ours: float, official: float) -> dict:
    return {name: round(ours, 2), f"official_{name}": round(official, 2), "ratio": round(ours / official, 2)}


# --- decoding ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def official_decoding(model: DecapDecoder, embedding: Tensor, max_tokens: int) -> tuple[int, ...]:
    """One caption: the full prefix again for each token, with a softmax before the arg-max, as in the notebook."""
    inputs = model.prefix(embedding).reshape(1, 1, -1)
    ids: list[int] = []
    for _ in range(max_tokens):
        logits = model.decoder(inputs_embeds=inputs).logits[:, -1, :]
        chosen = torch.argmax(F.softmax(logits, dim=-1), -1).unsqueeze(0)
        ids.append(int(chosen))
        if ids[-1] == END:
            break
        inputs = torch.cat((inputs, model.decoder.transformer.wte(chosen)), dim=1)
    return tuple(i for i in ids if i != END)


def decoding(sizes: Sizes, max_tokens: int, repeats: int) -> Iterator[dict]:
    model = new_decoder(sizes).eval()
    embeddings = F.normalize(torch.randn(64, sizes.embed_dim, generator=torch.Generator().manual_seed(1)), dim=-1)
    timed = embeddings[: 4 if sizes.width > 100 else 2]  # it has no batches: a few captions tell its speed
    expected = [official_decoding(model, row, max_tokens) for row in timed]
    official = len(timed) / seconds(lambda: [official_decoding(model, row, max_tokens) for row in timed], repeats)
    for batch in (1, 64):
        parts = timed.split(1) if batch == 1 else embeddings.split(batch)
        found = [one.ids for part in parts for one in model.generate(part, max_tokens=max_tokens)]
        spent = seconds(lambda parts=parts: [model.generate(part, max_tokens=max_tokens) for part in parts], repeats)
        yield {
            "what": "decoding", "batch": batch, "max_tokens": max_tokens,
            **compared("captions_per_s", sum(map(len, parts)) / spent, official),
            "same": found[: len(expected)] == expected,
        }  # fmt: skip


# --- projection -------------------------------------------------------------------------------------------------------


def dense_projection(queries: Tensor, memory: Tensor) -> Tensor:
    """As in the notebook: the whole memory to fp32 twice, all weights at once."""
    weights = (queries @ memory.T.float() * 100).softmax(dim=-1)
    mixed = weights @ memory.float()
    return mixed / mixed.norm(dim=-1, keepdim=True)


def projection_case(way: str, entries: int, batch: int, width: int, repeats: int) -> dict:
    """Time and extra peak memory of one way; runs in a process of its own, whose peak nothing else has touched."""
    generator = torch.Generator().manual_seed(0)
    memory = torch.empty(entries, width, dtype=torch.float16)
    for rows in memory.split(20_000):
        rows.copy_(F.normalize(torch.randn(len(rows), width, generator=generator), dim=-1))
    queries = F.normalize(torch.randn(batch, width, generator=generator), dim=-1)
    work = {
        "ours": lambda: project(queries, memory, 0.01).embeddings,
        "dense": lambda: dense_projection(queries, memory),
    }
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on, without that of the imports
    before = memory_mb("VmRSS")
    result = work[way]()
    peak = memory_mb("VmHWM")
    spent = seconds(work[way], repeats)
    return {"seconds": spent, "extra_mb": peak - before, "peak_mb": peak, "sum": float(result.sum())}


def memory_mb(field: str) -> float:
    """Memory of this process: resident now (VmRSS), or the highest it has been (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) / 1024


def in_own_process(*arguments: object) -> dict:
    command = [sys.executable, __file__, "--case", json.dumps(arguments)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def machine_limits(quick: bool) -> tuple[float, float]:
    """Measured bytes/s of reading memory, and fp32 operations/s of a matrix product: the best of several runs."""
    numbers = torch.ones((1 if quick else 64) * 2**20)
    bandwidth = 4 * len(numbers) / seconds(numbers.sum, 5)
    side = 512 if quick else 3072
    matrix = torch.randn(side, side)
    return bandwidth, 2 * side**3 / seconds(lambda: matrix @ matrix, 3)


def projection(sizes: Sizes, repeats: int) -> Iterator[dict]:
    bandwidth, peak = machine_limits(quick=sizes.width < 100)
    for entries, batch in itertools.product(sizes.entries, sizes.batches):
        ours, dense = (in_own_process(way, entries, batch, sizes.embed_dim, repeats) for way in ("ours", "dense"))
        bound = max(2 * entries * sizes.embed_dim / bandwidth, 4 * batch * entries * sizes.embed_dim / peak)
        yield {
            "what": "projection", "entries": entries, "batch": batch,
            "ms": round(1000 * ours["seconds"], 1), "dense_ms": round(1000 * dense["seconds"], 1),
            "bound_ms": round(1000 * bound, 1), "of_bound": round(bound / ours["seconds"], 2),
            "ratio": round(dense["seconds"] / ours["seconds"], 2),
            "extra_mb": round(ours["extra_mb"]), "dense_extra_mb": round(dense["extra_mb"]),
            "process_peak_mb": round(ours["peak_mb"]), "gb_per_s": round(bandwidth / 1e9, 1),
            "gflop_per_s": round(peak / 1e9), "same": abs(ours["sum"] - dense["sum"]) < 1e-2,
        }  # fmt: skip


# --- a memory of millions ---------------------------------------------------------------------------------------------


def write_decap(folder: Path, sizes: Sizes, entries: int) -> None:
    """A DeCap of random weights with a memory of random unit vectors, made in a file, since it may not fit."""
    torch.manual_seed(0)
    clip = Clip.from_config(sizes.clip)
    clip.save_pretrained(folder / "clip")
    texts = [f"caption number {number}" for number in range(entries)]
    scratch = folder / "scratch"
    size = entries * sizes.embed_dim
    embeddings = torch.from_file(str(scratch), shared=True, size=size, dtype=torch.float16).view(entries, -1)
    for rows in embeddings.split(20_000):
        rows.copy_(F.normalize(torch.randn(rows.shape), dim=-1))
    for place in range(CHECKED):  # which `SupportMemory.check_clip` embeds again
        row = place * (entries - 1) // (CHECKED - 1)
        embeddings[row] = clip.embed_texts([texts[row]])[0]
    memory = SupportMemory(embeddings, texts, "clip")
    memory.save(folder / "decap")
    scratch.unlink()
    decoder = new_decoder(sizes)
    gpt2 = {"vocab_size": sizes.vocabulary, "n_embd": sizes.width, "n_layer": 4, "n_head": 4}
    config = DecapConfig("../clip", sizes.embed_dim, gpt2, END, END - 1)
    save_decoder(decoder, config, folder / "decap")


def memory_case(folder: str, repeats: int) -> dict:
    """Load and describe one photograph; in a process of its own."""
    start = time.perf_counter()
    decap = Decap.from_pretrained(folder)
    loaded = time.perf_counter() - start
    photo = load_image(sorted((Path(__file__).parents[1] / "examples" / "photos").glob("*.jpg"))[0])
    described = seconds(lambda: decap.describe([photo]), repeats)
    queries = decap.clip.embed_images([photo])
    projected = seconds(lambda: decap.memory.project(queries, 0.01), repeats)  # type: ignore[union-attr]
    return {
        "load_s": round(loaded, 2), "describe_s": round(described, 2), "of_it_projection_s": round(projected, 2),
        "peak_mb": round(memory_mb("VmHWM")), "of_it_mapped_mb": round(memory_mb("RssFile")),
        "own_mb": round(memory_mb("RssAnon")),
    }  # fmt: skip


def large_memory(sizes: Sizes, repeats: int) -> Iterator[dict]:
    entries = 3_000_000 if sizes.width > 100 else 10_000
    with TemporaryDirectory() as folder:
        write_decap(Path(folder), sizes, entries)
        size = round((Path(folder) / "decap" / EMBEDDINGS_NAME).stat().st_size / 2**20)
        measured = in_own_process("memory", str(Path(folder) / "decap"), repeats)
        yield {"what": "memory", "entries": entries, "file_mb": size, **measured}


# --- libraries --------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def transformers_generate(model: DecapDecoder, embeddings: Tensor, max_tokens: int, num_beams: int) -> list:
    """Captions and their log probabilities by transformers alone."""
    out = model.decoder.generate(
        inputs_embeds=model.prefix(embeddings)[:, None],
        attention_mask=torch.ones(len(embeddings), 1, dtype=torch.long),
        max_new_tokens=max_tokens,
        num_beams=num_beams,
        do_sample=False,
        early_stopping=num_beams > 1,
        eos_token_id=model.end_id,
        pad_token_id=model.end_id,
        return_dict_in_generate=True,
        output_scores=True,
    )
    beams = out.beam_indices if num_beams > 1 else None
    scores = model.decoder.compute_transition_scores(
        out.sequences, out.scores, beams, normalize_logits=num_beams == 1
    ).tolist()
    ids = [tuple(i for i in row if i != model.end_id) for row in out.sequences.tolist()]
    return [(row, sum(score[: len(row) + 1])) for row, score in zip(ids, scores, strict=True)]


def generate(repeats: int) -> list[dict]:
    """The small DeCap that comes along, on entries of its memory: captions that end at different lengths."""
    decap = load_encoder("scenes:decap", device="cpu")
    order = torch.randperm(len(decap.memory), generator=torch.Generator().manual_seed(0))
    embeddings, most = decap.memory.embeddings[order[:32]].float(), decap.config.max_tokens
    rows = []
    for batch, num_beams in itertools.product((1, 32), (1, 3)):
        part = embeddings[:batch]
        ways = {
            "ours": lambda part=part, k=num_beams: decap.decoder.generate(part, max_tokens=most, num_beams=k),
            "transformers": lambda part=part, k=num_beams: transformers_generate(decap.decoder, part, most, k),
        }
        same = [one.ids for one in ways["ours"]()] == [ids for ids, _ in ways["transformers"]()]
        ours, theirs = (1000 * seconds(way, repeats) for way in ways.values())
        row = {"what": "generate", "batch": batch, "num_beams": num_beams, "ms": round(ours, 1)}
        rows.append(row | {"transformers_ms": round(theirs, 1), "ratio": round(theirs / ours, 2), "same": same})
    return rows


def attention(sizes: Sizes, repeats: int) -> list[dict]:
    """Projection by `scaled_dot_product_attention`, over the memory in fp32."""
    entries, rows = sizes.entries[1], []
    memory = F.normalize(torch.randn(entries, sizes.embed_dim), dim=-1).half()

    def by_torch(queries: Tensor) -> Tensor:
        keys = memory.float()[None]
        return F.normalize(F.scaled_dot_product_attention(queries[None], keys, keys, scale=100.0)[0], dim=-1)

    for batch in (1, 32, 256):
        queries = F.normalize(torch.randn(batch, sizes.embed_dim), dim=-1)
        same = torch.allclose(project(queries, memory, 0.01).embeddings, by_torch(queries), rtol=0, atol=1e-5)
        ours = 1000 * seconds(lambda queries=queries: project(queries, memory, 0.01), repeats)
        theirs = 1000 * seconds(lambda queries=queries: by_torch(queries), repeats)
        row = {"what": "attention", "entries": entries, "batch": batch, "ms": round(ours, 1)}
        rows.append(row | {"torch_ms": round(theirs, 1), "ratio": round(theirs / ours, 2), "same": same})
    return rows


# --- training ---------------------------------------------------------------------------------------------------------


def coco_like_ids(number: int) -> tuple[Tensor, Tensor]:
    """Random ids of captions as long as COCO's (about 10.5 words, standard deviation 2.4), start and end included."""
    rng = random.Random(0)
    lengths = [2 + min(22, max(7, round(rng.gauss(11.5, 2.6)))) for _ in range(number)]  # the full stop is one more
    ids = torch.zeros(number, 77, dtype=torch.long)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.tensor([49406, *(rng.randrange(256, 49406) for _ in range(length - 2)), END])
    return ids, torch.tensor(lengths)


def official_step(model: DecapDecoder, text_tower: Callable[[Tensor], Tensor], ids: Tensor) -> Tensor:
    """Encodes the captions again, at 77 tokens each; reads and predicts 20 tokens, padding included."""
    with torch.no_grad():
        features = text_tower(ids)
        features = features / features.norm(dim=-1, keepdim=True)
    tokens = ids[:, :20]
    prefix = model.prefix(features.float()).reshape(len(ids), 1, -1)
    inputs = torch.cat([prefix, model.decoder.transformer.wte(tokens)], dim=1)
    logits = model.decoder(inputs_embeds=inputs).logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens.flatten(), ignore_index=0, label_smoothing=0.1)


def our_step(model: DecapDecoder, embeddings: np.ndarray, ids: Tensor, lengths: Tensor, rows: slice) -> Tensor:
    """As `train.decap.DecapRecipe` does: cached embeddings, as long as the longest, the head for real tokens alone."""
    inputs, labels = padded(ids[rows], lengths[rows])
    counted = labels != IGNORED
    logits = model(torch.from_numpy(embeddings[rows].astype(np.float32)), inputs, counted).float()
    return F.cross_entropy(logits, labels[counted], label_smoothing=0.1)


def training(sizes: Sizes, repeats: int, batch: int = 64) -> Iterator[dict]:
    from textlens.encoders.clip.clip import Clip

    clip = Clip.from_config(sizes.clip, name="random")
    model = new_decoder(sizes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids, lengths = coco_like_ids(batch * sizes.steps)

    def speed(loss_of: Callable[[slice], Tensor]) -> float:
        def steps() -> None:
            for start in range(0, len(ids), batch):
                optimizer.zero_grad()
                loss_of(slice(start, start + batch)).backward()
                optimizer.step()

        return len(ids) / seconds(steps, repeats + 1)  # the first run warms up

    embeddings = F.normalize(torch.randn(len(ids), sizes.embed_dim), dim=-1).half().numpy()
    official = speed(lambda rows: official_step(model, clip.model.encode_text, ids[rows]))
    for precision in ("fp32", "bf16"):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            ours = speed(lambda rows: our_step(model, embeddings, ids, lengths, rows))
        row = compared("captions_per_s", ours, official)
        yield {"what": "training", "batch": batch, "precision": precision, **row}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("decoding", "projection", "training", "generate", "attention")
    parser.add_argument(
        "parts", nargs="*", choices=[*parts, "memory", []], default=[], help="all but memory unless named"
    )
    parser.add_argument("--max-tokens", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many runs")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        kind, *arguments = json.loads(args.case)
        case = memory_case(*arguments) if kind == "memory" else projection_case(kind, *arguments)
        print(json.dumps(case))
        return
    sizes = QUICK if args.quick else Sizes()
    if not args.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores")
    run = {
        "decoding": lambda: decoding(sizes, args.max_tokens, args.repeats),
        "projection": lambda: projection(sizes, args.repeats),
        "training": lambda: training(sizes, args.repeats),
        "generate": lambda: generate(args.repeats),
        "attention": lambda: attention(sizes, args.repeats),
        "memory": lambda: large_memory(sizes, args.repeats),
    }
    good = True
    for row in itertools.chain.from_iterable(run[part]() for part in args.parts or parts):
        good &= row.get("same", True)
        print(json.dumps(row) if args.json else "  ".join(f"{k}={v}" for k, v in row.items()), flush=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
