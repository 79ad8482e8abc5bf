"""What plug-ins bring: encoders, data sources, recipes and commands, each by its name. The made world is one.

A plug-in is a module with any of these, whose values are "module:attribute" and load on first use:

    ENCODERS = {"scenes": "textlens.scenes.included:load_included"}   # (name, device=, spec=) -> encoder
    SOURCES = {"scenes": "textlens.scenes.source:SceneData"}          # settings of a source, see `train.data.base`
    RECIPES = {"language-model": "textlens.scenes…:LanguageModelRecipe"}   # see `train.engine.recipe`
    TOKENIZERS = {"scenes": "textlens.scenes.tokenizer:build_tokenizer"}   # (vocab_size, context_length) -> tokenizer
    COMMANDS = {"scenes": "textlens.scenes.command:scenes"}           # functions for Typer
    EVAL_TASKS = {"scenes": "textlens.scenes:eval_tasks"}             # "package:folder" of task files, not loaded
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal

PLUGINS = ("textlens.scenes",)


def registered(
    kind: Literal["ENCODERS", "SOURCES", "RECIPES", "TOKENIZERS", "COMMANDS", "EVAL_TASKS"],
) -> Mapping[str, str]:
    """Name -> "module:attribute" of all plug-ins."""
    return {name: target for plugin in PLUGINS for name, target in getattr(import_module(plugin), kind, {}).items()}


def load(target: str) -> Any:
    """The object that "module:attribute" means."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
