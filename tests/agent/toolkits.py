"""A toolkit of real parts: the small CoCa that comes along, a tiny random Llama, a tiny random Stable Diffusion."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from textlens.agent.tools.image_access import ImageAccess
from textlens.agent.tools.image_store import ImageStore
from textlens.agent.tools.output_folder import OutputFolder
from textlens.agent.tools.tool_models import ToolModels
from textlens.agent.tools.toolkit import TextlensToolkit
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at

from ..language_models import tiny_llama
from ..pipelines import tiny_pipeline

SCENE = scene_at(0, "test")


def tiny_models(folder: Path) -> ToolModels:
    """What the random models write and draw is noise; all of the way to it is real."""
    llama, decoder = tiny_llama(folder / "llama", 2048), tiny_pipeline(folder / "decoder")
    return ToolModels(["scenes:coca"], f"hf:{llama}", str(decoder))


def tiny_toolkit(models: ToolModels, folder: Path) -> TextlensToolkit:
    """The scene is `image-1`, and `scene.png` in the root `folder/photos`; pictures go to `folder/out`."""
    for name in ("photos", "out"):
        (folder / name).mkdir()
    image = Image.fromarray(render(SCENE))
    image.save(folder / "photos" / "scene.png")
    store = ImageStore()
    store.add(image)
    access = ImageAccess([folder / "photos"], store)
    return TextlensToolkit(access=access, models=models, output=OutputFolder(folder / "out"))
