"""The made world: coloured symbols on plain backgrounds, every fact of them known. A plug-in of `textlens.plugins`."""

SOURCES = {"scenes": "textlens.scenes.source:SceneData"}
RECIPES = {"language-model": "textlens.scenes.language_model.language_model:LanguageModelRecipe"}
TOKENIZERS = {"scenes": "textlens.scenes.tokenizer:build_tokenizer"}
COMMANDS = {"scenes": "textlens.scenes.command:scenes"}
