"""Encoders of several specs for one evaluation; `decap@nnd` is DeCap with another strategy, on the same weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast, get_args

from ..encoders.base import Encoder
from ..encoders.decap.decap_checkpoint import Strategy
from ..encoders.decap.decap_encoder import Decap
from ..encoders.registry import load_encoder
from ..errors import InputError


def load_variants(specs: Sequence[str], *, device: str | None = None) -> dict[str, Encoder]:
    """Spec -> encoder. `SPEC@STRATEGY`, as in "decap@vd" or "decap:FOLDER@clipre", is a DeCap with that strategy.

    Raises `InputError` as `load_encoder` does, for a spec given twice, and for a strategy of another encoder.
    """
    if repeated := [spec for spec in dict.fromkeys(specs) if specs.count(spec) > 1]:
        raise InputError(f"the encoder {repeated[0]!r} is given twice; expected each once")
    loaded: dict[str, Encoder] = {}
    return {spec: _variant(spec, loaded, device) for spec in specs}


def _variant(spec: str, loaded: dict[str, Encoder], device: str | None) -> Encoder:
    base, at, strategy = spec.rpartition("@")
    if not at or strategy not in get_args(Strategy):  # an @ in a path or hub id
        base = spec
    if base not in loaded:
        loaded[base] = load_encoder(base, device=device)
    encoder = loaded[base]
    if base == spec:
        return encoder
    if not isinstance(encoder, Decap):
        raise InputError(f"{spec!r} names a strategy of DeCap, but {base!r} is none; leave out @{strategy}")
    return replace(encoder, config=replace(encoder.config, strategy=cast(Strategy, strategy)), spec=spec)


def named_folders(arguments: Sequence[str]) -> dict[str, str]:
    """["NAME=FOLDER", ...] -> {name: folder or hub id}."""
    pairs = [argument.partition("=") for argument in arguments]
    if bad := [whole for whole, (name, _, folder) in zip(arguments, pairs, strict=True) if not (name and folder)]:
        raise InputError(f"got {bad[0]!r}; expected NAME=FOLDER")
    return {name: folder for name, _, folder in pairs}
