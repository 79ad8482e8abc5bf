"""The settings of a toolkit as one mapping or YAML file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...encoders.image_sources import DEFAULT_LIMITS, Network
from ...errors import InputError
from ...input_files import read_yaml


class ToolkitSettings(BaseModel):
    """Paths are relative to the current folder; encoders, language model and decoder are specs of the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: list[Path] = []  # folders whose images may be opened
    images: dict[str, str] = {}  # id -> file, data URL, or with allow_network an http(s) address
    output_folder: Path | None = None  # where drawings may be saved
    encoders: list[str] | None = Field(default=None, min_length=1)
    language_model: str | None = None
    decoder: str | None = None
    data_urls: bool = True
    max_pixels: int = Field(default=DEFAULT_LIMITS.max_pixels, gt=0)
    allow_network: Network = False  # for `images` alone; tools never fetch

    @classmethod
    def read(cls, given: Mapping[str, Any] | str | Path) -> ToolkitSettings:
        """Of a mapping, or of a YAML file. Raises `InputError` that names file and key."""
        where = "settings" if isinstance(given, Mapping) else str(given)
        values = given if isinstance(given, Mapping) else _of_file(Path(given))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            told = "; ".join(_explained(one) for one in error.errors(include_url=False))
            raise InputError(f"{where}: {told}; the keys are {', '.join(cls.model_fields)}") from None


def _explained(error: Any) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    return f"{key} is {error['input']!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def _of_file(path: Path) -> Any:
    values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise InputError(f"{path} holds {type(values).__name__}; expected settings, such as roots: [photos]")
    return values
