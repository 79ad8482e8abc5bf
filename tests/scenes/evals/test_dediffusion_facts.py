"""De-Diffusion's measures against values known by other means, and its commands with tiny models of random weights."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from textlens.encoders.clip.clip import Clip
from textlens.encoders.coca.captioner import CocaCaptioner
from textlens.encoders.dediffusion.dediffusion_encoder import Dediffusion, DediffusionConfig
from textlens.encoders.redraw.redrawer import Redrawer
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.evals.encoder_variants import named_folders
from textlens.metrics.frechet_distance import frechet_distance
from textlens.scenes.captions import captions
from textlens.scenes.evals import dediffusion_facts as dediffusion
from textlens.scenes.evals import dediffusion_search, dediffusion_variants, reconstruction, redrawn
from textlens.scenes.evals.probe import Probe, ProbeConfig, ProbeNet, save_probe
from textlens.scenes.evals.redrawn import Drawer, Originals
from textlens.scenes.evals.testbed import first_scenes, pictures
from textlens.scenes.facts import KINDS, Facts, facts_of
from textlens.scenes.source import SceneData
from textlens.train.dediffusion.dediffusion_validation import draw_validation
from textlens.train.dediffusion.frozen_decoder import FrozenDecoder
from typer.testing import CliRunner

from ...pipelines import tiny_pipeline

QUERIES = 6


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip.from_pretrained(WEIGHTS / "scenes" / "coca")


@pytest.fixture(scope="module")
def encoder(clip: Clip) -> Dediffusion:
    """Random weights; what it saw is louder than what it is, so that its words differ between images."""
    config = DediffusionConfig(num_queries=QUERIES, depth=1, width=32, heads=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Dediffusion.new(config, clip, clip.tokenizer.tokenizer, clip.model.text.token_embedding.weight)
    made.model.pooler.queries.data.mul_(0.1)
    return made


class KnowingProbe(Probe):
    """Knows what the renders of the first test scenes show; random features."""

    def facts(self, images: Sequence[Image.Image], *, batch_size: int = 256) -> list[Facts]:
        scenes = first_scenes(20)
        known = {one.tobytes(): facts_of(scene) for one, scene in zip(pictures(scenes), scenes, strict=True)}
        return [known.get(image.tobytes(), Facts()) for image in images]


@pytest.fixture(scope="module")
def probe_net() -> ProbeNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ProbeNet(ProbeConfig(channels=(4, 4, 4), hidden=8, background_hidden=4)).eval()


@pytest.fixture(scope="module")
def originals(clip: Clip, probe_net: ProbeNet) -> Originals:
    return Originals(first_scenes(8, 3), clip, KnowingProbe(probe_net))


class DescriptiveDrawer:
    """Draws a text that is the descriptive caption of a scene exactly as the scene, and any other as a blank."""

    name, cost = "perfect", "nothing"

    def __init__(self, originals: Originals, redrawer: Redrawer | None = None) -> None:
        rng = random.Random(1)
        texts = [captions(scene, "descriptive", rng) for scene in originals.scenes]
        self.known, self.redrawer = dict(zip(texts, originals.images, strict=True)), redrawer

    def draw(self, texts: Sequence[str], guidance: float) -> list[Image.Image]:
        blank = Image.new("RGB", (64, 64), (round(guidance), 0, 0))
        return [self.known.get(text, blank) for text in texts]


@pytest.fixture(scope="module")
def folders(encoder: Dediffusion, probe_net: ProbeNet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A saved encoder, decoder and probe."""
    root = tmp_path_factory.mktemp("models")
    encoder.save_pretrained(root / "encoder")
    tiny_pipeline(root / "decoder")
    save_probe(probe_net, ProbeConfig(channels=(4, 4, 4), hidden=8, background_hidden=4), root / "probe")
    return {name: str(root / name) for name in ("encoder", "decoder", "probe")}


def run(main: object, *arguments: str) -> str:
    app = typer.Typer()
    app.command()(main)  # type: ignore[type-var]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def blind_captioner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions of noise go on to the greatest length, and are not what these tests are about."""
    monkeypatch.setattr(redrawn, "captioner_judge", lambda clip: lambda images: [Facts() for _ in images])


# --- measures


def test_frechet_distance_of_known_normal_distributions() -> None:
    features = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    shift = torch.tensor([1.0, -2.0, 3.0])
    assert frechet_distance(features, features + shift) == pytest.approx(14)  # 1 + 4 + 9
    # Three times as wide: tr(C + 9 C - 2 * 3 C) = 4 tr(C), and the mean moves by twice its value.
    expected = 4 * features.T.cov().trace() + 4 * features.mean(0).square().sum()
    assert frechet_distance(features, 3 * features) == pytest.approx(float(expected))


def test_frechet_distance_where_covariances_do_not_commute() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = (
        torch.randn(400, 4, generator=generator, dtype=torch.float64) @ torch.randn(4, 4, generator=generator).double()
        for _ in range(2)
    )
    first, second = one.T.cov(), other.T.cov()
    root = torch.linalg.eigvals(first @ second).real.sqrt().sum()  # the trace of the product's square root
    expected = (one.mean(0) - other.mean(0)).square().sum() + first.trace() + second.trace() - 2 * root
    assert frechet_distance(one, other) == pytest.approx(float(expected))
    assert frechet_distance(other, one) == pytest.approx(float(expected))


def test_images_themselves_are_the_best_drawings(originals: Originals) -> None:
    same = originals.measure(originals.images)
    assert same.frechet == pytest.approx(0, abs=1e-5)
    assert same.similarity == pytest.approx(1, abs=1e-5)
    assert same.pair["probe"] == same.triple["probe"] == 1
    assert same.triple["captioner"] > 0.7
    turned = originals.measure([*originals.images[1:], *originals.images[:1]])
    assert turned.frechet == pytest.approx(0, abs=1e-5)  # the same set of pictures
    assert turned.similarity < 0.7
    assert turned.triple["captioner"] < 0.3
    assert turned.triple["probe"] < 0.3
    assert originals.measure([Image.new("RGB", (64, 64))] * 8).frechet > 1e-3
    with pytest.raises(InputError, match="7 drawings of 8 scenes"):
        originals.measure(originals.images[1:])


def test_the_first_scenes_are_the_same_whatever_the_number() -> None:
    assert first_scenes(30, 3)[:7] == first_scenes(7, 3)
    assert {len(scene.objects) for scene in first_scenes(30, 3)} == {1, 2, 3}
    assert {len(scene.objects) for scene in first_scenes(30)} == {1, 2, 3, 4}


def test_drawer_counts_what_it_draws(folders: dict[str, str]) -> None:
    drawer = Drawer(Redrawer.from_pretrained(folders["decoder"]), steps=1, batch_size=2)
    assert len(drawer.draw(["a cat"] * 3, 1.0)) == 3
    drawer.draw(["a cat"], 2.0)
    assert drawer.images == 4
    assert drawer.seconds > 0
    assert "drew 4 images of 1 steps" in drawer.cost


# --- texts


def test_written_texts_are_those_that_describe_gives(encoder: Dediffusion, originals: Originals) -> None:
    whole, cut = (dediffusion.write(encoder, originals.images, count) for count in (None, 2))
    assert whole.texts == [one.text for one in encoder.describe(originals.images)]
    assert len(set(whole.texts)) > 1
    assert cut.texts == [" ".join(text.split()[:2]) for text in whole.texts]
    assert whole.surviving == cut.surviving == 1


def test_true_captions_fill_the_table_with_ones_and_nonsense_does_not() -> None:
    scenes = first_scenes(60)
    true = [captions(scene, "descriptive", random.Random(0)) for scene in scenes]
    rows = dediffusion.facts_rows(true, ["nothing"] * 60, scenes)
    assert list(rows) == [
        "1-3 objects", "1-3 objects, held-out combinations", "1 object", "2 objects", "3 objects", "4 objects",
        "CoCa captioner (ceiling), 1-3 objects", "constant text (floor), 1-3 objects",
    ]  # fmt: skip
    *written, captioned, floor = rows.values()
    assert all(scores[kind].f1 == 1 for scores in written for kind in KINDS)
    assert all(captioned[kind].f1 == 0 for kind in KINDS)
    assert all(0 < floor[kind].f1 < 1 for kind in KINDS)
    parts = [rows[name]["noun"].true for name in ("1 object", "2 objects", "3 objects")]
    assert sum(parts) == rows["1-3 objects"]["noun"].true == floor["noun"].true
    assert 0 < rows["1-3 objects, held-out combinations"]["noun"].true < sum(parts)


def test_targets_are_met_or_missed_by_so_much() -> None:
    scenes = first_scenes(20, 3)
    backgrounds = [f"{scene.background} background" for scene in scenes]
    line = dediffusion.against_targets(dediffusion.facts_rows(backgrounds, backgrounds, scenes)["1-3 objects"])
    assert line.startswith("background 1.000 of 0.99 met; colour 0.000 of 0.90 missed by 0.900; ")


# --- tables of drawings


@pytest.mark.usefixtures("blind_captioner")
def test_rows_of_every_text_and_scale(encoder: Dediffusion, originals: Originals, folders: dict[str, str]) -> None:
    drawer = DescriptiveDrawer(originals, Redrawer.from_pretrained(folders["decoder"]))
    texts = reconstruction.sources(encoder, originals)
    assert texts["another image's text (floor)"][:-1] == texts["De-Diffusion"][1:]
    assert len(set(texts["the most typical image's text (floor)"])) == 1
    # Drawn after all styles of caption from one generator, so that these are not the drawer's own texts.
    drawer.known |= dict(zip(texts["descriptive caption"], originals.images, strict=True))
    rows = reconstruction.rows_of(drawer, texts, originals, [1.0, 3.0])  # type: ignore[arg-type]
    assert len(rows) == 2 * len(texts) + 2
    by_text = {row.text: row.figures for row in rows}
    assert by_text["descriptive caption"].similarity == pytest.approx(1, abs=1e-5)
    assert by_text["descriptive caption"].triple["probe"] == 1
    assert by_text["De-Diffusion"].triple["probe"] == 0
    assert by_text["other real images"].triple["probe"] < 0.3
    assert by_text["other real images"].frechet > by_text["descriptive caption"].frechet
    assert json.loads(json.dumps(asdict(rows[0])))["figures"]["pair"] == {"captioner": 0.0, "probe": 0.0}


def test_table_has_the_papers_form() -> None:
    shares = {"captioner": 0.25, "probe": 0.75}
    figures = [redrawn.Figures(distance, 0.5, shares, shares) for distance in (1.0, 2.0, 3.0)]
    scales = (1.5, 2.0, None)
    names = ("words", "words", "bound")
    rows = [reconstruction.Row("d", *row) for row in zip(names, scales, figures, strict=True)]
    expected = (
        "| d: Fréchet distance | 1.5 | 2 |\n|---|---|---|\n| words | 1.000 | 2.000 |\n| bound | 3.000 | 3.000 |\n\n"
    )
    assert reconstruction.tables(rows).startswith(expected)
    assert "| words | 0.250 / 0.750 | 0.250 / 0.750 |" in reconstruction.tables(rows)


def test_cells_of_what_was_not_drawn() -> None:
    assert redrawn.cells(None) == ["-"] * len(redrawn.COLUMNS)
    figures = redrawn.Figures(1.234, 0.5, {"captioner": 0.25, "probe": 1.0}, {"captioner": 0.0, "probe": 0.5})
    assert redrawn.cells(figures) == ["1.23", "0.500", "0.250 / 1.000", "0.000 / 0.500"]


@pytest.mark.usefixtures("blind_captioner")
def test_variants_are_cut_where_they_are_long_enough(encoder: Dediffusion, originals: Originals) -> None:
    drawer, scenes = DescriptiveDrawer(originals), originals.scenes
    redraw = dediffusion_variants.redraw_with(drawer, originals)  # type: ignore[arg-type]
    rows = dediffusion_variants.variants({"one": encoder}, scenes, redraw, [1, 3, QUERIES + 1])
    assert [row.name for row in rows] == ["one, first 1", "one, first 3"]
    whole = dediffusion_variants.variants({"one": encoder}, scenes, lambda texts: None)
    assert [(row.name, row.figures) for row in whole] == [(f"one ({QUERIES} words)", None)]
    bounds = dediffusion_variants.bounds(encoder, CocaCaptioner(originals.clip), scenes, redraw)
    assert [row.bound for row in bounds] == [True] * 4
    assert all(bounds[0].scores[kind].f1 == 1 for kind in KINDS)
    assert bounds[0].figures is not None
    assert bounds[0].figures.triple["probe"] == 1
    assert bounds[-1].figures is None
    table = dediffusion_variants.table([*rows, *bounds]).splitlines()
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 2 + 4


@pytest.mark.usefixtures("blind_captioner")
def test_more_texts_than_originals(originals: Originals) -> None:
    drawer = DescriptiveDrawer(originals)
    redraw = dediffusion_variants.redraw_with(drawer, originals)  # type: ignore[arg-type]
    found = redraw([*drawer.known, "one more"])
    assert found is not None
    assert found.similarity == pytest.approx(1, abs=1e-5)


# --- commands


@pytest.mark.usefixtures("blind_captioner")
def test_facts_command(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dediffusion, "REDRAWN", 3)
    common = ("--encoder", folders["encoder"], "--number", "50")
    shown = run(dediffusion.main, *common, "--examples", "2")
    assert "| 1-3 objects, held-out combinations |" in shown
    assert "100.0% of texts give the same ids" in shown
    assert "drawn from" not in shown
    drawing = ("--decoder", folders["decoder"], "--probe", folders["probe"], "--steps", "1")
    drawn = json.loads(run(dediffusion.main, *common, *drawing, "--json"))["redrawn"]
    assert list(drawn) == ["De-Diffusion", "descriptive caption (ceiling)", "another image's text (floor)"]


@pytest.mark.usefixtures("blind_captioner")
def test_reconstruction_command(folders: dict[str, str], tmp_path: Path) -> None:
    decoders = ("--decoder", folders["decoder"], "--decoder", folders["decoder"])
    few = ("--number", "3", "--steps", "1", "--scales", "2", "--probe", folders["probe"])
    arguments = ("--encoder", folders["encoder"], *decoders, *few, "--plot", str(tmp_path / "plot.png"), "--json")
    rows = [json.loads(line) for line in run(reconstruction.main, *arguments).splitlines()]
    assert len(rows) == 2 * (6 + 2)
    assert {row["guidance"] for row in rows} == {2, None}
    assert Image.open(tmp_path / "plot.png").width > 500


@pytest.mark.usefixtures("blind_captioner")
def test_variants_command(folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dediffusion_variants, "REDRAWN", 3)
    both = (f"one={folders['encoder']}", f"two={folders['encoder']}")
    drawing = ("--decoder", folders["decoder"], "--probe", folders["probe"], "--steps", "1")
    picture = tmp_path / "plot.png"
    shown = run(dediffusion_variants.main, *both, "--number", "4", *drawing, "--plot", str(picture))
    assert f"| two ({QUERIES} words) |" in shown
    assert "drew 15 images" in shown
    assert Image.open(picture).width > 500
    text = run(dediffusion_variants.main, both[0], "--number", "4", "--tokens", "1,2", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["name"] for row in rows[:2]] == ["one, first 1", "one, first 2"]
    assert all(row["figures"] is None for row in rows)


def test_arguments_that_mean_nothing() -> None:
    assert reconstruction.numbers("1.5,2", float) == [1.5, 2.0]
    with pytest.raises(InputError, match="numbers with commas"):
        reconstruction.numbers("1,two", int)
    assert named_folders(["a=b=c"]) == {"a": "b=c"}
    for bad in ("weights/scenes/dediffusion", "=weights", "name="):
        with pytest.raises(InputError, match="expected NAME=FOLDER"):
            named_folders(["a=b", bad])


# --- search


def test_a_sweep_exchanges_words_for_such_as_lower_the_loss(encoder: Dediffusion, folders: dict[str, str]) -> None:
    decoder = FrozenDecoder.from_pretrained(folders["decoder"])
    samples = SceneData(held_out_objects=3).open(image_size=decoder.image_size).held_out(3)
    seen = draw_validation(encoder.clip, decoder, samples, timesteps=(650, 1000))
    tasks, ids = dediffusion_search.draw_tasks(seen, 2, seed=1), encoder.vocabulary.ids
    assert all(not torch.equal(task.noise, seen.task.noise) for task in tasks)
    assert not torch.equal(tasks[0].timesteps, tasks[1].timesteps)
    with torch.no_grad():
        logits = encoder.model(seen.pixels)
    words = logits.argmax(-1)
    found = dediffusion_search.sweep(decoder, tasks, ids, logits, words, 5, seed=0)
    assert torch.equal(words, logits.argmax(-1))
    before, after = (dediffusion_search.losses(decoder, tasks, ids[w].unsqueeze(1)) for w in (words, found))
    assert (after < before).all()
    again = dediffusion_search.sweep(decoder, tasks, ids, logits, words, 5, seed=0)
    assert torch.equal(found, again)


def test_search_from_the_command_line(folders: dict[str, str]) -> None:
    shown = run(
        dediffusion_search.main,
        *("--encoder", folders["encoder"], "--decoder", folders["decoder"]),
        *("--number", "2", "--sweeps", "1", "--noises", "1", "--tried", "2"),
    )
    assert "| after 1 sweep |" in shown
    assert "with descriptive captions" in shown
