"""Settings: typed dataclasses, read from YAML files in which every error names file and key.

A file may hold `stages:`, a list. What stands beside it belongs to every stage; a stage says what is different, and
goes on from the model of the stage before unless it names another `start`. `base: other.yaml` takes another file's
settings and changes them. `variants:` names changes of a file for comparisons; "FILE.yaml#NAME" means one of them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as typed_dataclass

from ...errors import InputError
from ...input_files import read_yaml

Config = TypeVar("Config")
MAX_BASES = 20  # files that build on one another


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def settings(cls: type[Config]) -> type[Config]:
    """A frozen dataclass whose fields are checked by their types; unknown names and wrong values raise `InputError`."""
    typed: Any = typed_dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)
    build: Callable[..., None] = typed.__init__

    @functools.wraps(build)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        try:
            build(self, *args, **values)
        except ValidationError as error:
            raise InputError(f"{cls.__name__}: {explained(error, cls)}") from None

    typed.__init__ = checked
    return typed


def parse(config_class: type[Config], values: Any, where: str = "") -> Config:
    """`config_class` of a mapping as YAML or JSON holds it: no text is taken for a number. where: begins the error."""
    try:
        text = json.dumps(values, default=str)
    except (TypeError, ValueError) as error:  # keys that are no words
        raise InputError(f"{where}{': ' * bool(where)}{error}; expected names of settings with their values") from None
    try:
        return TypeAdapter(config_class).validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(f"{where}{': ' * bool(where)}{explained(error, config_class)}") from None


def explained(error: ValidationError, config_class: type) -> str:
    """All errors in one line: "loop.learning_rate is '5e-4'; expected a number ..."."""
    return "; ".join(_explained(one, config_class) for one in error.errors(include_url=False))


def _explained(error: Any, config_class: type) -> str:
    kind, place = error["type"], ".".join(str(part) for part in error["loc"] if not str(part).startswith("function-"))
    if kind == "unexpected_keyword_argument":
        return f"unknown key {place!r}; expected {', '.join(_names(config_class, error['loc'][:-1]))}"
    if kind == "missing":
        return f"{place} is missing"
    if kind == "value_error":  # raised by a check of ours, whose message is whole
        return f"{f'{place}: ' * bool(place)}{error['ctx']['error']}"
    expected = error["msg"][0].lower() + error["msg"][1:]
    hint = " (it stands in quotes, which make it text)" if _number_as_text(error["input"]) else ""
    return f"{place} is {_short(error['input'])}; {expected}{hint}"


def _number_as_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _names(config_class: Any, place: tuple[Any, ...]) -> list[str]:
    """The fields of the settings that stand at a place of the file."""
    for part in place:
        inner = get_type_hints(config_class).get(str(part), config_class)
        inner = next(filter(is_dataclass, get_args(inner)), inner)  # of "Settings | None"
        config_class = inner if is_dataclass(inner) else config_class
    return [one.name for one in fields(config_class)]


@dataclass(frozen=True)
class Stage:
    """One run of a recipe: where it goes and what its settings are. `values`: the settings before they are checked."""

    out: Path
    values: Mapping[str, Any]

    def settings(self, config_class: type[Config], path: Path) -> Config:
        """Raises `InputError` that names `path` and the key."""
        return parse(config_class, dict(self.values), str(path))


def read_settings(config_class: type[Config], path: Path) -> Config:
    """The settings of a file with one stage. Raises `InputError` that names the file and the key."""
    stages = read_stages(path, Path("runs"))
    if len(stages) > 1:
        raise InputError(f"{path} has {len(stages)} stages; expected settings of one")
    return stages[0].settings(config_class, path)


def read_stages(path: Path, out: Path) -> list[Stage]:
    """The stages of a file: in `out` itself where it has no `stages:`, else in out/stage-1, out/stage-2, ..."""
    values = _load(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}; expected names of settings with their values")
    if "stages" not in values:
        return [Stage(out, values)]
    changes = values.pop("stages")
    if not isinstance(changes, list) or not changes or not all(isinstance(change, dict) for change in changes):
        raise InputError(f"{path}: stages is {_short(changes)}; expected a list of settings, one entry for each stage")
    stages: list[Stage] = []
    for number, change in enumerate(changes, 1):
        before = {"start": str(stages[-1].out / "model")} if stages else {}
        stages.append(Stage(out / f"stage-{number}", _merged(values | before, _with_data(change, path))))
    return stages


def _load(path: Path, above: tuple[Path, ...] = ()) -> Any:
    """What a YAML file says, with its `base` and the variant after "#" filled in. above: the files that led here."""
    path, variant = Path(str(path).partition("#")[0]), str(path).partition("#")[2]
    if len(above) > MAX_BASES:
        raise InputError(f"{above[0]} has a base of a base, and so on, more than {MAX_BASES} deep; expected a few")
    if path.resolve() in above:
        raise InputError(f"{path} is its own base, by way of {above[-1]}; expected a base that stands on its own")
    values = read_yaml(path)
    if not isinstance(values, dict):
        return values
    values = _with_data(values, path)
    variants = values.pop("variants", None) or {}
    if not isinstance(variants, dict) or not all(isinstance(one, dict) for one in variants.values()):
        raise InputError(f"{path}: variants is {_short(variants)}; expected names with the settings that each changes")
    if variant and variant not in variants:
        raise InputError(
            f"{path} has no variant {variant!r}; expected one of {', '.join(map(str, variants)) or 'none'}"
        )
    if "base" in values:
        base = _load(path.parent / str(values.pop("base")), (*above, path.resolve()))
        if not isinstance(base, dict):
            return base
        values = _merged(base, values)
    return _merged(values, _with_data(variants[variant], path)) if variant else values


def _with_data(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`source`, `image_column` and `text_column` at the top are short for `data: {source, image, text}`."""
    short = {"source": "source", "image_column": "image", "text_column": "text"}
    if "source" not in values:
        return dict(values)
    if not isinstance(values.get("data", {}), dict):
        raise InputError(f"{path}: data is {_short(values['data'])}; expected names of settings with their values")
    data = {name: values[key] for key, name in short.items() if key in values}
    return {
        **{key: value for key, value in values.items() if key not in short},
        "data": {**data, **values.get("data", {})},
    }


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]} ..."


def _merged(base: Mapping[Any, Any], changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Mappings in both are merged in turn; anything else is replaced.

    So is a mapping with another `source`: columns and held-out items belong to their data.
    """
    merged = dict(base)
    for name, value in changes.items():
        before = base.get(name)
        if isinstance(value, dict) and isinstance(before, dict) and value.get("source") in (None, before.get("source")):
            value = _merged(before, value)
        merged[name] = value
    return merged
