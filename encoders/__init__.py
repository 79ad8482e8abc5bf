"""Encoders: image -> words. Import the modules; this one stays free of torch."""

from .base import Description, Encoder

__all__ = ["Description", "Encoder"]
