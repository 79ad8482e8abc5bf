"""Formats are called by their names, and pictures of a folder that are not read are not passed over."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from PIL import Image
from textlens.encoders.images import ImageError, expand_images, load_image
from textlens.encoders.signatures import FORMATS, formats, heif_kind, is_picture, unsupported_kind

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def box(major: bytes, *others: bytes) -> bytes:
    size = 16 + 4 * len(others)
    return size.to_bytes(4, "big") + b"ftyp" + major + bytes(4) + b"".join(others) + bytes(40)


def written(format: str, size: tuple[int, int] = (20, 10), **settings: object) -> bytes:
    made = io.BytesIO()
    Image.new("RGB", size, "red").save(made, format, **settings)
    return made.getvalue()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (box(b"heic", b"mif1"), "HEIC"),
        (box(b"mif1", b"mif1", b"heic"), "HEIC"),
        (box(b"mif1", b"mif1"), "HEIF"),
        (box(b"avif", b"mif1"), None),
        (box(b"mif1", b"avif"), None),
        (box(b"isom", b"mp41"), None),
        (b"", None),
    ],
)
def test_brands_tell_heic_from_avif(data: bytes, kind: str | None) -> None:
    assert heif_kind(data) == kind


@pytest.mark.parametrize("settings", [{}, {"compression": "tga_rle"}])
@pytest.mark.parametrize("size", [(1, 1), (20, 10), (300, 2)])
def test_tga_is_no_ico(size: tuple[int, int], settings: dict[str, str]) -> None:
    assert unsupported_kind(written("TGA", size, **settings)) == "TGA"
    assert unsupported_kind(written("ICO", (16, 16))) == "ICO"
    with pytest.raises(ImageError, match="TGA is an unsupported format"):
        load_image(written("TGA", size, **settings))


def test_what_is_read_is_never_called_unsupported() -> None:
    for name in FORMATS:
        assert load_image(written(name)).size == (20, 10)


def test_pictures_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(HEIC)
    (tmp_path / "b.jp2").write_bytes(b"x")
    (tmp_path / "c.ico").write_bytes(written("ICO", (16, 16)))
    (tmp_path / "no ending").write_bytes(written("PNG"))
    (tmp_path / "heic without").write_bytes(HEIC)
    (tmp_path / "letter").write_text("dear all")
    (tmp_path / "notes.txt").write_text("a red star")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    names = [Path(name).name for name in expand_images([str(tmp_path)])]
    assert names == ["a.heic", "b.jp2", "c.ico", "heic without", "no ending"]
    assert not is_picture(tmp_path / "none")


def test_heic_is_read_where_the_package_is_there_and_named_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pillow_heif")
    data = io.BytesIO()
    formats()
    Image.new("RGB", (64, 32), "red").save(data, "HEIF")
    assert load_image(data.getvalue()).size == (64, 32)
    formats.cache_clear()
    try:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "pillow_heif", None)
            with pytest.raises(ImageError, match=r"HEIC is an unsupported format.*textlens\[heif\]"):
                load_image(data.getvalue())
    finally:
        formats.cache_clear()
