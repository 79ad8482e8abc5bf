"""Pages of one file: style and script stand inside, and a policy allows nothing else."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, StrictUndefined


def page_environment() -> Environment:
    """Templates in which data never becomes markup, and a missing value is an error."""
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def source_hash(text: str) -> str:
    """A style's or script's entry in the page's content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
