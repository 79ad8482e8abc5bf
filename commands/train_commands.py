"""`textlens train`, `import` and `memory`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .printing import print_json, print_notes


def train(
    recipe: Annotated[
        str, typer.Argument(help="captioner, coca, decap, dediffusion, autoencoder, text-to-image, …, or a plug-in's.")
    ],
    config: Annotated[Path, typer.Option(help="Settings file, such as configs/coca-small.yaml; FILE#NAME: a variant.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, metrics.jsonl and the finished model.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
    max_minutes: Annotated[float | None, typer.Option(help="Pause after this time; go on later with --resume.")] = None,
) -> None:
    """Train a model by its recipe. A paused or killed run goes on exactly where its last checkpoint stands."""
    from ..train.engine.distributed import is_first_process
    from ..train.registry import run_recipe

    result = run_recipe(recipe, config, out, resume=resume, max_minutes=max_minutes)
    print_notes([f"skipped {item}" for item in result.skipped])
    ended = {"finished": result.finished, "step": result.step, "checkpoint": str(result.checkpoint)}
    if is_first_process():
        print_json({**ended, "skipped": len(result.skipped), **result.evaluation})


def import_checkpoint(
    layout: Annotated[str, typer.Argument(help="Whose checkpoint it is: decap-official or open-clip.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint, such as coco_prefix-009.pt or epoch_32.pt.")],
    out: Annotated[Path, typer.Argument(help="Folder for the converted model.")],
    clip: Annotated[
        str | None,
        typer.Option(help="decap-official: the CLIP it was trained for, MODEL/TAG or a folder; else ViT-B-32/openai."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="open-clip: the architecture, such as coca_ViT-B-32, or its JSON file.")
    ] = None,
) -> None:
    """Convert a published checkpoint into a folder that textlens reads. Runs no code that the file may hold."""
    if layout == "decap-official" and model is None:
        from ..encoders.decap.decap_checkpoint import import_official

        import_official(file, out, clip=clip or "ViT-B-32/openai")
    elif layout == "open-clip" and model is not None and clip is None:
        from ..encoders.clip.open_clip_import import import_open_clip

        import_open_clip(file, out, model=model)
    elif layout in ("decap-official", "open-clip"):
        raise InputError("open-clip needs --model NAME and takes no --clip; decap-official takes --clip, no --model")
    else:
        raise InputError(f"unknown layout {layout!r}: expected decap-official or open-clip")
    typer.echo(str(out))


def memory(
    texts: Annotated[Path, typer.Argument(help="A text file with one caption per line; may be gzipped.")],
    clip: Annotated[
        str, typer.Option(help="The CLIP that embeds them: of an encoder (coca, …), open_clip MODEL/TAG or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="DeCap folder to put the support memory into.")],
    cut_long: Annotated[bool, typer.Option("--cut-long", help="Shorten captions that the CLIP cannot read whole.")] = (
        False
    ),
) -> None:
    """Build a support memory for DeCap from captions. Run it again after an interruption: it goes on."""
    from ..encoders.decap.memory_build import build_memory, captions_from_file
    from ..encoders.registry import load_clip

    built = build_memory(captions_from_file(texts), load_clip(clip), out, cut_long=cut_long)
    print_json({"entries": len(built.texts), "memory": str(out)})
