"""Whether a change leaves every word as it was: record what the command line prints, compare later, byte for byte.

    python benchmarks/outputs.py record runs/outputs.json     # with the code before
    python benchmarks/outputs.py compare runs/outputs.json    # with the code after

64 test scenes, described by every small encoder and by a random BLIP (`hf:`), and one question about each. Floating
point differs between processors, so both runs belong on one machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

NUMBER = 64
ENCODERS = ("scenes:coca", "scenes:decap", "scenes:dediffusion", "hf:blip")
ASK = ("-e", "scenes:dediffusion", "-e", "scenes:decap", "--llm", "tiny")
QUESTIONS = (
    "What color is the background?",
    "What is in the center?",
    "How many things are there?",
    "Is there a star?",
)


def textlens(*arguments: str, folder: Path) -> str:
    """Standard output of the command line, run in `folder`."""
    command = (sys.executable, "-c", "from textlens.cli import main; main()", *arguments)
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def save_blip(folder: Path) -> None:
    """A BLIP of random weights, a function of the seed, in the format of published ones."""
    import torch
    import transformers as hf
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<unk>", "<s>", "</s>", "[DEC]", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    vocabulary.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 4, "eos_token_id": 3, "sep_token_id": 3}
    text = {**sizes, **ids, "encoder_hidden_size": 32, "max_position_embeddings": 64, "initializer_range": 0.7}
    vision = {**sizes, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    torch.manual_seed(0)
    hf.BlipForConditionalGeneration(hf.BlipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    tokenizer = hf.PreTrainedTokenizerFast(tokenizer_object=vocabulary, **special)
    hf.BlipProcessor(hf.BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)


def outputs() -> dict[str, list[str]]:
    """Lines of `describe --json` by encoder, and of `ask --json`."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        save_blip(folder / "blip")
        textlens("scenes", str(NUMBER), "--out", "scenes", folder=folder)
        images = [f"scenes/{index:05d}.png" for index in range(NUMBER)]
        printed = {
            f"describe {spec}": textlens("describe", *images, "-e", spec, "--json", folder=folder).splitlines()
            for spec in ENCODERS
        }
        printed["ask"] = []
        for index, image in enumerate(images):
            question = QUESTIONS[index % len(QUESTIONS)]
            printed["ask"] += textlens("ask", image, question, *ASK, "--json", folder=folder).splitlines()
    return printed


def main(
    action: Annotated[str, typer.Argument(help="record or compare.")],
    file: Annotated[Path, typer.Argument(help="The JSON file of the record.")],
) -> None:
    """Record the outputs in FILE, or compare them with it; exit code 1 where a line differs."""
    found = outputs()
    if action == "record":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
        return
    before, differing = json.loads(file.read_text(encoding="utf-8")), 0
    for name, lines in before.items():
        changed = [(old, new) for old, new in zip(lines, found[name], strict=True) if old != new]
        differing += len(changed)
        typer.echo(f"{name}: {len(lines) - len(changed)} of {len(lines)} lines equal")
        for old, new in changed[:2]:
            typer.echo(f"  before {old}\n  after  {new}")
    raise typer.Exit(bool(differing))


if __name__ == "__main__":
    typer.run(main)
