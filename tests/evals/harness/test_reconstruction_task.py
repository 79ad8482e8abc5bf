"""Images are drawn again from words by a tiny random decoder: the same words give the same drawing, others another."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from PIL import Image
from textlens.errors import InputError
from textlens.evals.harness.runner import EvalSettings, run
from textlens.evals.harness.saved_results import read_samples
from textlens.evals.harness.task_kinds import open_task
from textlens.metrics.frechet_distance import frechet_distance
from textlens.scenes.scene_files import write_scenes
from torchvision.transforms.functional import pil_to_tensor

from ...pipelines import tiny_pipeline
from .tiny_benchmark import COLOURS, Looker


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("decoder"))


def write_task(folder, decoder, **config):
    (folder / "images").mkdir(exist_ok=True)
    for i, colour in enumerate(COLOURS.values()):
        Image.new("RGB", (32 + i, 32), colour).save(folder / "images" / f"{i}.png")
    rows = [{"image": f"{i}.png", "text": f"a {name} thing"} for i, name in enumerate(COLOURS)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    settings = {
        "task": "drawn", "kind": "reconstruction", "data": "rows.jsonl", "images": "images",
        "columns": {"truth": "text"}, "clip": "scenes/coca", "decoder": str(decoder), "guidance_scales": [1, 3],
        "num_inference_steps": 1, **config,
    }  # fmt: skip
    (folder / "drawn.yaml").write_text(json.dumps(settings))
    return str(folder / "drawn.yaml")


def test_rows_and_drawings(tmp_path, decoder):
    task = open_task(write_task(tmp_path, decoder), tmp_path)
    settings = EvalSettings((4,), output=tmp_path / "out", log_samples=True)
    results = run([task], {"looker": Looker()}, [], None, settings)
    rows = {(row.context, row.metric): row for row in results.results}
    metrics = ["clip_similarity@1", "clip_similarity@3", "frechet@1", "frechet@3"]
    assert list(task.metrics) == metrics
    assert {context for context, _ in rows} == {"none", "other image", "looker", "truth"}
    assert rows["looker", metrics[0]].stderr > 0
    assert rows["looker", metrics[0]].above_floor is not None
    assert rows["looker", "frechet@3"].score > 0
    assert rows["looker", "frechet@3"].stderr is None
    assert "no FID" in results.tasks["drawn"].metrics["frechet@3"]
    assert "biased upwards" in results.tasks["drawn"].notes[-1]
    samples = [one for one in read_samples(tmp_path / "out", "drawn") if one.context == "looker"]
    assert all(Image.open(tmp_path / "out" / one.drawn).size == (64, 64) for one in samples)
    assert len({one.drawn for one in samples}) == 4


def test_figures_are_those_of_the_drawings(tmp_path, decoder):
    task = open_task(write_task(tmp_path, decoder, guidance_scales=[2]), tmp_path)
    task.prepare()
    texts = ["red", "green", None, "black"]
    scores = task.score_all(texts)
    drawn = task._redrawer.draw(["red", "green", "", "black"], guidance_scale=2, num_inference_steps=1)
    made = task.clip.embed_images(drawn)
    own = (made * task.embeddings).sum(1)
    for i in (0, 1, 3):
        assert scores[i]["clip_similarity@2"] == pytest.approx(float(own[i]), abs=1e-4)
    assert scores[2]["clip_similarity@2"] == 0
    distance = frechet_distance(made[torch.tensor([0, 1, 3])], task.embeddings)
    assert task.corpus(texts, scores)["frechet@2"].score == pytest.approx(100 * distance, abs=1e-2)


def test_fid_by_inception_weights_of_a_file(tmp_path, decoder, monkeypatch):
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with monkeypatch.context() as patch:  # random weights in the published format
        torch.manual_seed(0)
        patch.setattr(inception, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda self, state: None)
        network = inception.FeatureExtractorInceptionV3("inception", ["2048"])
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    config = {"guidance_scales": [2], "inception": "inception.pth"}
    task = open_task(write_task(tmp_path, decoder, **config), tmp_path)
    task.prepare()
    texts = ["red", "green", None, "black"]
    scores = task.corpus(texts, task.score_all(texts))
    drawn = task._redrawer.draw(["red", "green", "", "black"], guidance_scale=2, num_inference_steps=1)

    def features(images):
        return torch.cat([network(pil_to_tensor(image)[None])[0] for image in images])

    distance = frechet_distance(
        features([drawn[i] for i in (0, 1, 3)]), features([task._read_image(doc.image) for doc in task.data.asked])
    )
    assert scores["fid@2"].score == pytest.approx(distance, rel=1e-3)
    assert scores["fid@2"].score > 0
    assert "biased upwards" in task.notes[-1]
    (tmp_path / "other.pth").write_bytes(pickle.dumps(print, protocol=2))
    for name, told in (("nothing.pth", "no file"), ("other.pth", "as Inception's weights")):
        with pytest.raises(InputError, match=told):
            open_task(write_task(tmp_path, decoder, inception=name), tmp_path).prepare()


def test_a_folder_of_images_has_no_ceiling(tmp_path, decoder):
    task = open_task(write_task(tmp_path, decoder, data="imagefolder:images", guidance_scales=[1]), tmp_path)
    (tmp_path / "images" / "0.png").write_bytes(b"no image")
    results = run([task], {"looker": Looker()}, [], None, EvalSettings((4,)))
    rows = {(row.context, row.metric): row for row in results.results}
    assert {context for context, _ in rows} == {"none", "other image", "looker"}
    assert rows["looker", "clip_similarity@1"].parse_failures == 1


def test_scenes_bring_tasks_of_their_own(tmp_path, decoder):
    assert len(list(write_scenes(6, tmp_path))) == 6
    task = open_task("scenes_reconstruction", tmp_path, limit=3)
    assert len(task.data.asked) == 3
    assert all(doc.truth for doc in task.data.asked)
    asked = open_task("scenes_vqa", tmp_path).data
    assert asked.asked
    assert all(len(doc.references) == 10 and doc.truth for doc in asked.asked)
    assert not {doc.image for doc in asked.asked} & {doc.image for doc in asked.candidates}


def test_what_does_not_fit_is_told_before_words_are_written(tmp_path, decoder):
    with pytest.raises(InputError, match="there is no folder"):
        open_task(write_task(tmp_path, "./nothing"), tmp_path)
    with pytest.raises(InputError, match="greater than or equal to 1"):
        open_task(write_task(tmp_path, decoder, guidance_scales=[0.5]), tmp_path)
    looker = Looker()
    task = open_task(write_task(tmp_path, decoder), tmp_path)
    (tmp_path / "images" / "2.png").unlink()
    with pytest.raises(InputError, match=r"lacks 1 images: 2\.png"):
        run([task], {"looker": looker}, [], None, EvalSettings((4,)))
    (tmp_path / "empty").mkdir()
    task = open_task(write_task(tmp_path, tmp_path / "empty"), tmp_path)
    with pytest.raises(InputError, match="does not load as a text-to-image model"):
        run([task], {"looker": looker}, [], None, EvalSettings((4,)))
    assert looker.seen == 0
