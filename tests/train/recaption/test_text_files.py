import io

import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.train.recaption.caption_checks import Checks
from textlens.train.recaption.recaption import RecaptionSettings, recaption

from .conftest import loaded, picture


def run(photos, tmp_path, **changes):
    settings = RecaptionSettings(
        f"imagefolder:{photos}", tmp_path / "out", {"short": "scenes:coca"}, write_txt="short", **changes
    )
    return recaption(settings)


def words(number):
    return loaded("scenes:coca").describe([Image.open(io.BytesIO(picture(number)))])[0].text


def test_captions_stand_beside_the_images(photos, tmp_path):
    made = run(photos, tmp_path)
    assert (made.text_files.written, made.problems) == (6, [])
    assert [(photos / f"{number}.txt").read_text() for number in range(6)] == [f"{words(n)}\n" for n in range(6)]
    made = run(photos, tmp_path)  # the text files change nothing in the source
    assert (made.images, made.text_files.written, made.text_files.there) == (0, 0, 6)


def test_other_words_are_never_replaced_unasked(photos, tmp_path):
    (photos / "2.txt").write_text("mine")
    made = run(photos, tmp_path)
    assert (made.text_files.written, made.text_files.others) == (5, [str(photos / "2.txt")])
    assert "replace them with --overwrite-txt" in made.problems[0]
    assert (photos / "2.txt").read_text() == "mine"
    assert run(photos, tmp_path, overwrite_txt=True).text_files.written == 1
    assert (photos / "2.txt").read_text() == f"{words(2)}\n"


def test_two_images_do_not_share_a_text_file(photos, tmp_path):
    (photos / "0.webp").write_bytes(picture(9))
    made = run(photos, tmp_path, overwrite_txt=True)
    assert made.text_files.others == [str(photos / "0.txt")]
    assert (photos / "0.txt").read_text() == f"{words(0)}\n"


def test_flagged_captions_are_not_written(photos, tmp_path):
    (photos / "1.png").write_bytes(b"")
    made = run(photos, tmp_path, checks=Checks(deny=("on a",)))
    assert made.text_files.flagged >= 1
    flagged = [number for number in range(6) if number == 1 or " on a " in words(number)]
    assert [number for number in range(6) if not (photos / f"{number}.txt").exists()] == flagged


def test_only_image_folders_have_a_place_for_them(photos, tmp_path):
    with pytest.raises(InputError, match="expected imagefolder:DIR"):
        RecaptionSettings("webdataset:a.tar", tmp_path / "out", {"short": "scenes:coca"}, write_txt="short")
    with pytest.raises(InputError, match="'long' is no style; expected short"):
        RecaptionSettings(f"imagefolder:{photos}", tmp_path, {"short": "scenes:coca"}, write_txt="long")
