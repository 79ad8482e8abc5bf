"""Scores that tell images unlike the training data, and the threshold of the note."""

from pathlib import Path

import pytest
from PIL import Image
from textlens.errors import InputError
from textlens.evals.unlike_training import auroc, main, scores_of


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Scenes, which the small captioner knows, and plain grey images."""
    from textlens.scenes.rendering import render
    from textlens.scenes.scene import scene_at

    known, other = (tmp_path_factory.mktemp(name) for name in ("known", "other"))
    for number in range(12):
        Image.fromarray(render(scene_at(number, "test"), 64)).save(known / f"{number}.png")
        Image.new("RGB", (64, 64), (60 + number,) * 3).save(other / f"{number}.png")
    return known, other


def test_auroc_is_the_share_of_pairs_in_order():
    assert auroc([3, 4], [1, 2]) == 1
    assert auroc([1, 2], [1, 2]) == 0.5
    assert auroc([1, 4], [2, 3]) == 0.5


def test_captions_of_known_images_are_surer(folders, capsys):
    known, other = (f"imagefolder:{folder}" for folder in folders)
    main(known, other, encoder="scenes:coca", score="confidence", noted=0.1)
    printed = capsys.readouterr().out
    assert "known: 12 images" in printed
    assert float(printed.split("AUROC ")[1].split(";")[0]) > 0.9


def test_a_score_that_is_not_there_is_named(folders):
    with pytest.raises(InputError, match="gives no score 'similarity'; expected one of log_probability, confidence"):
        scores_of("scenes:coca", "similarity", f"imagefolder:{Path(folders[0])}")
