"""The prompt syntax of image generators, read and kept as written; `parse_prompt` in `parsed_prompt.py` is the entry."""

from .parsed_prompt import ParsedPrompt, parse_prompt

__all__ = ["ParsedPrompt", "parse_prompt"]
