"""textlens: see images through text. Public names load on first use, so that `import textlens` stays light."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Description": ".encoders.base",
    "Encoder": ".encoders.base",
    "ImageReader": ".agent.reader.reader",
    "InputError": ".errors",
    "LoadedImage": ".encoders.images",
    "TextlensError": ".errors",
    "TextlensToolkit": ".agent.tools.toolkit",
    "load_encoder": ".encoders.registry",
    "load_image": ".encoders.images",
    "load_images": ".encoders.images",
    "load_language_model": ".agent.models.registry",
}

__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'textlens' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
