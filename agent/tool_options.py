"""Options of the commands that draw and serve (web, mcp, recreate), and the models that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .tools.tool_models import ToolModels

Encoders = Annotated[list[str] | None, typer.Option("--encoder", "-e", help="Encoder spec, as of ask; repeatable.")]
LanguageModelSpec = Annotated[
    str | None, typer.Option("--llm", help="Language model, as of ask: gemma, http://HOST:PORT/v1, …")
]
Decoder = Annotated[
    str | None,
    typer.Option(help="Folder or hub id of a diffusers pipeline, Stable Diffusion or SDXL; by default the small one."),
]
Guidance = Annotated[float, typer.Option(min=1, help="Guidance scale of drawings; 1 is none.")]
Steps = Annotated[int, typer.Option(min=1, help="Denoising steps of drawings.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Refuse images with more pixels than this.")]


def named_models(encoders: list[str] | None, llm: str | None, decoder: str | None, max_pixels: int) -> ToolModels:
    """The models that tools use, which load when they are first needed; wrong specs are `InputError`s now.

    The limits of images are `.limits` of the result.
    """
    from ..encoders.images import ImageLimits
    from ..encoders.registry import check_encoder
    from .models.registry import check_language_model
    from .tools.tool_models import ToolModels

    for spec in encoders or ():
        check_encoder(spec)
    if llm is not None:
        check_language_model(llm)
    return ToolModels(encoders, llm, decoder, limits=ImageLimits(max_pixels=max_pixels))
