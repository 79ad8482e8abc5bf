from PIL import Image, ImageChops
from textlens.evals.photo_sheet import card, sheets
from textlens.evals.photos import load_photos_of

from .captioned_photos import write_shard


def ink(image: Image.Image) -> int:
    return sum(ImageChops.invert(image.convert("L")).histogram()[60:])


def test_sheets_show_all_words(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    samples = load_photos_of(f"webdataset:{write_shard(tmp_path / 'shard.tar')}")
    words = {"one": ["a dog"] * 6, "two": ["STOP\nGO", *[""] * 5]}
    made = sheets(samples, words, per_sheet=4)
    assert len(made) == 2
    assert made[0].height > made[1].height  # two rows, one row
    blank = sheets(samples, {"one": words["one"]}, per_sheet=4)
    assert ink(made[0]) > ink(blank[0])


def test_long_words_make_the_card_taller():
    image = Image.new("RGB", (1, 900), "red")  # a strip
    short, long = (card(image, "name", {"spec": text}) for text in ("a dog", "a dog " * 200))
    assert long.height > short.height + 200
    assert short.width == long.width
