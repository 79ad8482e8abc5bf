"""Which encoder writes which style: `--style` and `--encoder` of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...errors import InputError
from .part_file import CUT_OFF, FIXED, KEEP, REASONS, SIMILARITY

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_PLACE = "{style}"  # in a spec: the style's name
_SHOWN = "--encoder short=coca:runs/short/model --encoder descriptive=coca:runs/descriptive/model"


def style_encoders(encoders: Sequence[str], styles: Sequence[str] = ()) -> dict[str, str]:
    """Style -> encoder spec, in order of `styles` if they are given.

    Encoders are STYLE=SPEC, one for each style; or one SPEC alone, which writes one style, or with "{style}" in it one
    of each name. A style that is not named takes the name of its spec. Raises `InputError` for all else.
    """
    named = [_split(one) for one in encoders]
    wrong = next((name for name in [*styles, *(name for name, _ in named if name)] if not _is_style(name)), None)
    if wrong is not None:
        raise InputError(
            f"style {wrong!r} cannot name a column: expected letters, digits, - and _, and no other column"
        )
    if len(set(styles)) < len(styles):
        raise InputError(f"--style names {', '.join(styles)}; expected each style once")
    if not named:
        raise InputError(f"no encoder was given; expected --encoder SPEC, or one for each style: {_SHOWN}")
    if all(name is None for name, _ in named):
        return _one_spec([spec for _, spec in named], styles)
    if any(name is None for name, _ in named):
        raise InputError(f"some encoders have a style and some have none: {', '.join(encoders)}; expected {_SHOWN}")
    found = {str(name): spec for name, spec in named}
    if len(found) < len(named):
        raise InputError(f"a style has two encoders: {', '.join(encoders)}; expected one for each style")
    if styles and set(styles) != set(found):
        raise InputError(f"--style names {', '.join(styles)}, but --encoder {', '.join(found)}; expected the same")
    return {style: found[style] for style in styles or found}


def _one_spec(specs: Sequence[str], styles: Sequence[str]) -> dict[str, str]:
    if len(specs) > 1:
        raise InputError(f"{len(specs)} encoders without a style: {', '.join(specs)}; expected {_SHOWN}")
    spec = specs[0]
    if _PLACE in spec:
        if not styles:
            raise InputError(f"--encoder {spec} stands for several; name the styles with --style short,descriptive")
        return {style: spec.replace(_PLACE, style) for style in styles}
    if len(styles) > 1:
        raise InputError(
            f"one encoder, {spec}, would write the same caption for {', '.join(styles)}; expected {_SHOWN}, or "
            f"{_PLACE} in its spec, such as coca:runs/{_PLACE}/model"
        )
    return {styles[0] if styles else _named_after(spec): spec}


def _split(given: str) -> tuple[str | None, str]:
    """ "short=coca:FOLDER" -> its two halves; a spec may have "=" behind its colon."""
    name, equals, spec = given.partition("=")
    if not equals or ":" in name or "/" in name:
        return None, given
    if not spec:
        raise InputError(f"--encoder {given!r} has no encoder; expected STYLE=SPEC, such as short=coca")
    return name, spec


def _named_after(spec: str) -> str:
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", spec).strip("_")
    return name if _is_style(name) else f"style_{name}"


def _is_style(name: str) -> bool:
    taken = name in FIXED or name.startswith((KEEP, REASONS, CUT_OFF, SIMILARITY))
    return _NAME.fullmatch(name) is not None and not taken
