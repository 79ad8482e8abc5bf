"""The made world: coloured symbols on plain backgrounds, every fact of them known. A plug-in of `textlens.plugins`."""

from importlib import import_module
from typing import Any

ENCODERS = {"scenes": "textlens.scenes.included:load_included"}
SOURCES = {"scenes": "textlens.scenes.source:SceneData"}
RECIPES = {"language-model": "textlens.scenes.language_model.language_model:LanguageModelRecipe"}
TOKENIZERS = {"scenes": "textlens.scenes.tokenizer:build_tokenizer"}
COMMANDS = {"scenes": "textlens.scenes.command:scenes"}
EVAL_TASKS = {"scenes": "textlens.scenes:eval_tasks"}

_PUBLIC = {  # loaded on first use; none needs torch
    "Scene": ".world",
    "SceneObject": ".world",
    "facts_of": ".facts",
    "parse_facts": ".facts",
    "render": ".rendering",
    "scene_at": ".scene",
    "scenes_dataset": ".scene_files",
    "write_scenes": ".scene_files",
}

__all__ = ["COMMANDS", "ENCODERS", "EVAL_TASKS", "RECIPES", "SOURCES", "TOKENIZERS", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name], __name__), name)
