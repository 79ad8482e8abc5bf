"""Where a language model may have pictures written: new PNG files directly in one folder, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from textlens.agent.tools.output_folder import OutputFolder
from textlens.errors import InputError

RED = Image.new("RGB", (4, 4), (255, 0, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["star.png", "a red star-2.PNG", "étoile_1.png", "a..b.png"])
def test_new_files_are_written(folder, name):
    path = OutputFolder(folder).save(name, RED)
    assert path == folder.resolve() / name
    assert Image.open(path).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "../star.png",
        "sub/star.png",
        "/tmp/star.png",
        "..\\star.png",
        "C:star.png",
        "C:\\star.png",
        "star.png:stream.png",
        ".star.png",
        ".png",
        "..png",
        "",
        "star",
        "star.svg",
        "star.png.exe",
        "star.png\n",
        "st\0ar.png",
        "~/star.png",
        "file:///tmp/star.png",
        f"{'a' * 200}.png",
    ],
)
def test_every_other_name_is_refused(folder, name):
    before = everything(folder)
    with pytest.raises(InputError, match="cannot be a picture's name"):
        OutputFolder(folder).save(name, RED)
    assert everything(folder) == before


def test_nothing_is_ever_written_over(folder):
    (folder / "mine.png").write_bytes(b"mine")
    (folder.parent / "other.png").write_bytes(b"other")
    (folder / "link.png").symlink_to(folder.parent / "other.png")
    (folder / "dangling.png").symlink_to(folder.parent / "new.png")
    (folder / "folder.png").mkdir()
    before = everything(folder)
    output = OutputFolder(folder)
    for name in ("mine.png", "link.png", "dangling.png", "folder.png"):
        with pytest.raises(InputError, match="already"):
            output.save(name, RED)
    assert everything(folder) == before
    output.save("new name.png", RED)
    with pytest.raises(InputError, match="already"):
        output.save("new name.png", RED)


@pytest.mark.parametrize("target", ["other.png", "new.png"])
def test_a_file_that_comes_in_between_is_kept(folder, target, monkeypatch):
    """Between the check and the write anybody may put a file, or a link, in the place."""
    (folder.parent / "other.png").write_bytes(b"other")
    output = OutputFolder(folder)
    check = output.check

    def check_then_be_overtaken(name: str) -> Path:
        path = check(name)
        path.symlink_to(folder.parent / target)
        return path

    monkeypatch.setattr(output, "check", check_then_be_overtaken)
    before = everything(folder)
    with pytest.raises(InputError, match="already"):
        output.save("star.png", RED)
    monkeypatch.undo()
    (folder / "star.png").unlink()
    assert everything(folder) == before


def test_a_folder_that_is_gone_is_an_error_of_one_line(folder):
    output = OutputFolder(folder)
    folder.rmdir()
    with pytest.raises(InputError, match=r"star\.png cannot be written") as error:
        output.save("star.png", RED)
    assert str(folder) not in str(error.value)
    with pytest.raises(InputError, match="no folder"):
        OutputFolder(folder)
