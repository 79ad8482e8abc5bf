"""The prompt syntax of image generators, read and kept as written; the entry is `parse_prompt`."""

from .parsed_prompt import ParsedPrompt, parse_prompt

__all__ = ["ParsedPrompt", "parse_prompt"]
