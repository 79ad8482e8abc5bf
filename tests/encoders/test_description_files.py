"""Files of words: whose is whose, and what is in them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from textlens.encoders.base import Description
from textlens.encoders.description_files import DescriptionFiles, file_of
from textlens.encoders.pipeline import Result
from textlens.errors import InputError


def result(text: str | None, encoder: str = "coca", image: str = "a.png") -> Result:
    if text is None:
        return Result(image, encoder, None, f"{image}: damaged")
    return Result(image, encoder, Description(text, tuple(text.split()), encoder), None)


def names(tmp_path: Path, images: list, folders: list[str] | None = None) -> list[str]:
    out = tmp_path / "out"
    return [str(path.relative_to(out)) for path in DescriptionFiles(out).paths(images, folders or [])]


def test_images_of_one_name_keep_their_subfolders(tmp_path: Path) -> None:
    images = [str(tmp_path / "in" / name) for name in ("a.png", "one/a.png", "two/a.png")]
    assert names(tmp_path, images) == ["a.txt", "one/a.txt", "two/a.txt"]
    assert names(tmp_path, images[1:]) == ["one/a.txt", "two/a.txt"]
    assert names(tmp_path, images[1:2]) == ["a.txt"]
    assert names(tmp_path, images[1:2], [str(tmp_path / "in")]) == ["one/a.txt"]


def test_images_of_one_stem_keep_their_endings(tmp_path: Path) -> None:
    images = [str(tmp_path / name) for name in ("a.png", "a.JPG", "b.png", "A.png", "c")]
    assert names(tmp_path, images) == ["a.png.txt", "a.JPG.txt", "b.txt", "A.png-2.txt", "c.txt"]
    assert names(tmp_path, [str(tmp_path / "b.png"), os.path.relpath(tmp_path / "b.png")]) == ["b.txt", "b.txt"]


def test_images_without_a_path_are_named_too(tmp_path: Path) -> None:
    urls = [
        "https://host/x/cat.jpg?size=3",
        "https://host/",
        "https://host/%2e%2e",
        "data:image/png;base64,AAAA",
        b"PNG",
    ]
    assert names(tmp_path, urls) == ["cat.txt", "image.txt", "image-2.txt", "image-3.txt", "image-4.txt"]


def test_the_content_of_a_file() -> None:
    assert file_of([result("a red cat")], "txt") == "a red cat\n"
    both = [result("a red\ncat"), result("cat, sun", "tags")]
    assert file_of(both, "txt") == "[coca] a red cat\n[tags] cat, sun\n"
    assert file_of([result(None), result("cat", "tags")], "txt") == "[tags] cat\n"
    found = json.loads(file_of([result(None), result("cat", "tags")], "json"))
    assert found == {
        "image": "a.png",
        "descriptions": [
            {"encoder": "coca", "text": None, "tokens": None, "note": None, "error": "a.png: damaged"},
            {"encoder": "tags", "text": "cat", "tokens": ["cat"], "note": None, "error": None},
        ],
    }


def test_files_are_written_whole_and_failures_are_told(tmp_path: Path) -> None:
    files = DescriptionFiles(tmp_path / "new" / "out")
    (tmp_path / "new" / "out" / "b.txt").mkdir()
    paths = [files.folder / "deep" / "a.txt", files.folder / "b.txt", files.folder / "c.txt"]
    rows = [result("a cat"), result("a sun", image="b.png"), result(None, image="c.png")]
    found = list(files.write_all(rows, paths, 1))
    assert [row.error is None for row in found] == [True, False, False]
    assert str(found[1].error).startswith("b.png: ")
    assert "cannot be written" in str(found[1].error)
    assert (paths[0].read_text(), files.written) == ("a cat\n", 1)
    assert [path.name for path in (files.folder / "deep").iterdir()] == ["a.txt"]
    assert not paths[2].exists()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be made a folder"):
        DescriptionFiles(tmp_path / "file")
    with pytest.raises(InputError, match="expected one of txt, json"):
        DescriptionFiles(tmp_path / "out", "xml")  # type: ignore[arg-type]
