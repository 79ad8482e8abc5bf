"""`recaption` as a whole, in one process, with the made world's encoders."""

import io
import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from PIL import Image
from textlens.encoders.registry import WEIGHTS
from textlens.errors import InputError
from textlens.train.data.files import FileData
from textlens.train.recaption import recaption as whole
from textlens.train.recaption.caption_checks import Checks
from textlens.train.recaption.part_file import sample_key
from textlens.train.recaption.recaption import RecaptionSettings, recaption

from .conftest import loaded, picture

STYLES = {"short": "scenes:coca", "long": "scenes:decap"}


def rows(folder):
    return [row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def lines(folder):
    return [json.loads(line) for line in (folder / "parts.jsonl").read_text().splitlines()]


def test_every_variant_stands_beside_the_originals(shards, tmp_path):
    made = recaption(RecaptionSettings(shards(3, 2), tmp_path / "out", STYLES, batch_size=2))
    found = rows(tmp_path / "out")
    assert [row["key"] for row in found] == [f"{number:06d}" for number in range(5)]
    assert [row["original"] for row in found] == [[f"scene {number}"] for number in range(5)]
    images = [Image.open(io.BytesIO(picture(number))) for number in range(5)]
    for style, spec in STYLES.items():
        assert [row[style] for row in found] == [one.text for one in loaded(spec).describe(images)]
    assert (made.images, made.tally.rows, made.tally.failed, made.problems) == (5, 5, 0, [])
    assert [line["part"] for line in lines(tmp_path / "out")] == ["00000", "00001"]


def test_keys_are_those_of_the_training_data(shards, photos, tmp_path):
    for place, source in enumerate((shards(3, 2), f"imagefolder:{photos}")):
        recaption(RecaptionSettings(source, tmp_path / f"out{place}", {"short": "scenes:coca"}))
        opened = FileData(source, held_out_share=0.0).open(texts=False)
        keys = {opened.read(row, 0, 0, image=False).key for row in range(opened.size)}
        assert {sample_key(row["shard"], row["key"]) for row in rows(tmp_path / f"out{place}")} == keys


def test_the_manifest_has_encoders_weights_and_settings(shards, tmp_path):
    recaption(RecaptionSettings(shards(1), tmp_path / "out", STYLES))
    told = json.loads((tmp_path / "out" / "recaption.json").read_text())["configuration"]
    assert {style: facts["encoder"] for style, facts in told["styles"].items()} == STYLES
    assert told["styles"]["short"]["settings"]["num_beams"] == loaded("scenes:coca").search.num_beams
    assert len({facts["weights"] for facts in told["styles"].values()}) == 2


def test_what_is_done_is_not_done_again(shards, tmp_path):
    settings = RecaptionSettings(shards(2, 2), tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "00001.parquet").unlink()
    assert recaption(settings).images == 2
    assert recaption(settings).images == 0
    assert contents(tmp_path / "out") == before


def test_batches_and_parts_make_no_difference_to_rows(photos, tmp_path):
    settings = RecaptionSettings(f"imagefolder:{photos}", tmp_path / "a", {"short": "scenes:coca"}, part_size=4)
    recaption(settings)
    recaption(replace(settings, folder=tmp_path / "b", batch_size=1, part_size=100))
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    assert [path.name for path in sorted((tmp_path / "a").glob("*.parquet"))] == [
        "part-00000.parquet", "part-00001.parquet",
    ]  # fmt: skip


def test_bad_images_are_recorded_and_retried_on_request(photos, tmp_path):
    (photos / "2.png").write_bytes(b"no image")
    (photos / "4.png").write_bytes(b"")
    settings = RecaptionSettings(f"imagefolder:{photos}", tmp_path / "out", {"short": "scenes:coca"})
    made = recaption(settings)
    assert (made.tally.failed, made.captioned) == (2, 4)
    bad = [row for row in rows(tmp_path / "out") if row["error"]]
    assert [row["error"].partition(";")[0] for row in bad] == [
        "not an image, or of an unsupported format", "the file is empty (zero-sized: 0 bytes)",
    ]  # fmt: skip
    assert [(row["short"], row["keep_short"], row["reasons_short"]) for row in bad] == [(None, False, ["failed"])] * 2
    (photos / "2.png").write_bytes(picture(2))
    assert recaption(settings).tally.failed == 2  # not asked for
    assert recaption(replace(settings, retry_failed=True)).tally.failed == 1
    (photos / "4.png").write_bytes(picture(4))
    assert recaption(replace(settings, retry_failed=True)).problems == []
    recaption(replace(settings, folder=tmp_path / "fresh"))
    assert rows(tmp_path / "out") == rows(tmp_path / "fresh")


def test_bad_shards_are_named_and_the_others_go_on(shards, tmp_path, write_tar):
    source = shards(2, 3, 2)
    (tmp_path / "shards" / "00000.tar").write_bytes(b"no tar" * 500)
    content = (tmp_path / "shards" / "00001.tar").read_bytes()
    (tmp_path / "shards" / "00001.tar").write_bytes(content[: len(content) // 2])
    write_tar(tmp_path / "shards" / "00003.tar", {"1.txt": b"words alone"})
    settings = RecaptionSettings(source, tmp_path / "out", {"short": "scenes:coca"})
    made = recaption(settings)
    assert "00000.tar cannot be opened" in made.bad_shards[0]
    cut = [row for row in rows(tmp_path / "out") if row["error"]]
    assert "the shard is damaged or cut off here" in [row["error"] for row in cut]
    assert "has no image" in [row["error"] for row in cut]
    assert [row["key"] for row in rows(tmp_path / "out") if not row["error"]][-2:] == ["000005", "000006"]
    shards(2, 3, 2)  # mended: shards that have changed are done again
    (tmp_path / "shards" / "00003.tar").unlink()
    made = recaption(settings)
    assert (made.problems, made.images) == ([], 7)
    assert "no longer has" in made.notes[0]


def test_a_shard_that_goes_away_is_recorded(shards, tmp_path, monkeypatch):
    source = shards(2, 2)

    def gone(*arguments, **settings):
        found = whole_open(*arguments, **settings)
        (tmp_path / "shards" / "00000.tar").unlink()
        return found

    whole_open = whole.open_parts
    monkeypatch.setattr(whole, "open_parts", gone)
    made = recaption(RecaptionSettings(source, tmp_path / "out", {"short": "scenes:coca"}))
    assert made.images == 2
    assert "00000.tar" in made.bad_shards[0]


def test_members_that_are_there_twice_are_told(tmp_path):
    import tarfile

    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for number in (0, 1):
            member = tarfile.TarInfo("a.png")
            member.size = len(picture(number))
            tar.addfile(member, io.BytesIO(picture(number)))
    made = recaption(RecaptionSettings(f"webdataset:{tmp_path}/0.tar", tmp_path / "out", {"short": "scenes:coca"}))
    assert len(rows(tmp_path / "out")) == 1
    assert made.problems == [f"{tmp_path}/0.tar: a.png is there more than once; the first one counts"]


@pytest.mark.parametrize(("change", "difference"), [
    ({"styles": {"short": "scenes:decap"}}, "styles.short.weights was"),
    ({"styles": STYLES}, "styles.long.encoder was not set"),
    ({"clip": str(WEIGHTS / "scenes" / "coca")}, "clip.encoder was not set"),
    ({"part_size": 3}, "source.part_size was 10000, is 3"),
    ({"image": "picture"}, "has no column 'picture'"),
])  # fmt: skip
def test_a_folder_of_another_configuration_is_refused(photos, tmp_path, change, difference):
    settings = RecaptionSettings(f"imagefolder:{photos}", tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    before = contents(tmp_path / "out")
    with pytest.raises(InputError, match=difference):
        recaption(replace(settings, **change))
    assert contents(tmp_path / "out") == before


def test_a_source_that_grew_is_refused_where_its_items_are_numbered(photos, tmp_path):
    settings = RecaptionSettings(f"imagefolder:{photos}", tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    (photos / "0a.png").write_bytes(picture(50))
    with pytest.raises(InputError, match=r"source\.identity was 6 items \w+, is 7 items"):
        recaption(settings)


def test_further_shards_are_added(shards, tmp_path):
    settings = RecaptionSettings(shards(2), tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    shards(2, 3)
    recaption(settings)
    assert len(rows(tmp_path / "out")) == 5


def test_a_folder_of_other_files_is_refused(shards, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"has other files, such as notes\.txt"):
        recaption(RecaptionSettings(shards(1), tmp_path / "out", {"short": "scenes:coca"}))


def test_source_and_output_lie_apart(photos, shards, tmp_path):
    source = f"imagefolder:{photos}"
    (tmp_path / "link").symlink_to(photos)
    for folder in (photos, photos / "deep" / "er", tmp_path / "link" / "out"):
        with pytest.raises(InputError, match="lies in the source"):
            recaption(RecaptionSettings(source, folder, {"short": "scenes:coca"}))
    with pytest.raises(InputError, match="lies in the output folder"):
        recaption(RecaptionSettings(source, tmp_path, {"short": "scenes:coca"}))
    shards(1)
    with pytest.raises(InputError, match="lies in the source"):
        recaption(RecaptionSettings(f"webdataset:{tmp_path}/shards", tmp_path / "shards", {"short": "scenes:coca"}))
    assert not list(photos.glob("**/*.json"))


def test_captions_of_many_images_are_flagged(tmp_path, write_tar):
    members = {f"{number:03d}.png": picture(0) for number in range(11)} | {"b.png": picture(1)}
    write_tar(tmp_path / "0.tar", members)
    write_tar(tmp_path / "1.tar", {"c.png": picture(0), "d.png": picture(2)})
    source = f"webdataset:{tmp_path}/[01].tar"
    made = recaption(RecaptionSettings(source, tmp_path / "out", {"short": "scenes:coca"}))
    assert made.tally.styles["short"].flagged == {"constant": 12}
    assert [row["keep_short"] for row in rows(tmp_path / "out")] == [False] * 11 + [True, False, True]
    told = json.loads((tmp_path / "out" / "checks.json").read_text())
    assert len(told["constant"]["short"]) == 1
    assert told["styles"]["short"] == {"written": 14, "kept": 2, "flagged": {"constant": 12}}


def test_other_checks_flag_anew_without_describing(shards, tmp_path):
    settings = RecaptionSettings(shards(4, 4), tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    before = contents(tmp_path / "out")
    word = rows(tmp_path / "out")[5]["short"].rpartition("background")[0].split()[-1]
    made = recaption(replace(settings, checks=Checks(deny=(word.upper(),))))
    assert made.images == 0
    assert made.tally.styles["short"].flagged["denied"] >= 1
    for row in rows(tmp_path / "out"):
        assert ("denied" in row["reasons_short"]) == (word in row["short"].split()) == (not row["keep_short"])
    recaption(settings)
    assert contents(tmp_path / "out") == before


def test_similarity_to_the_image_is_held_against_the_originals(tmp_path, write_tar):
    captions = [
        one.text for one in loaded("scenes:coca").describe([Image.open(io.BytesIO(picture(n))) for n in (0, 1)])
    ]
    members = {"0.png": picture(0), "0.json": {"captions": [captions[1]] * 2}}  # of the other image
    members |= {"1.png": picture(1), "1.json": {"captions": [captions[1]]}}
    write_tar(tmp_path / "0.tar", members)
    clip = str(WEIGHTS / "scenes" / "coca")
    settings = RecaptionSettings(f"webdataset:{tmp_path}/0.tar", tmp_path / "out", {"short": "scenes:coca"}, clip=clip)
    recaption(settings)
    first, second = rows(tmp_path / "out")
    assert first["similarity_short"] > max(first["similarity_original"])
    assert len(first["similarity_original"]) == 2
    assert second["similarity_short"] == pytest.approx(second["similarity_original"][0], abs=1e-6)
    write_tar(tmp_path / "1.tar", {"1.png": picture(1), "1.txt": captions[1].encode()})
    recaption(RecaptionSettings(
        f"webdataset:{tmp_path}/1.tar", tmp_path / "worse", {"short": "scenes:decap"}, clip=clip, checks=Checks()
    ))  # fmt: skip
    (row,) = rows(tmp_path / "worse")
    assert (row["reasons_short"] == ["below_original"]) == (row["similarity_short"] < row["similarity_original"][0])


def test_an_encoder_that_fails_on_an_image_costs_that_style_alone(shards, tmp_path, monkeypatch):
    class Refuses:
        config = "refuses"

        def describe(self, images):
            raise ValueError("no picture for me")

    from textlens.train.recaption import part_worker

    monkeypatch.setattr(part_worker, "load_encoder", lambda spec, device: Refuses() if spec == "no" else loaded(spec))
    made = recaption(RecaptionSettings(shards(2), tmp_path / "out", {"short": "scenes:coca", "long": "no"}))
    for row in rows(tmp_path / "out"):
        assert row["short"]
        assert (row["long"], row["keep_short"], row["keep_long"]) == (None, True, False)
        assert row["error"].startswith("long: ")
        assert row["error"].endswith(": no could not describe this image: no picture for me")
    assert made.tally.failed == 2


def test_a_part_that_another_process_finished_meanwhile_is_left(shards, tmp_path, monkeypatch):
    from textlens.train.recaption.ledger import claimed
    from textlens.train.recaption.part_worker import PartWorker, WorkSettings, load_models
    from textlens.train.recaption.source_parts import open_parts

    parts = open_parts(shards(2))
    (tmp_path / "out").mkdir()
    work = WorkSettings(parts.settings, tmp_path / "out", {"short": "scenes:coca"})
    models = load_models(work)
    one, two = PartWorker(work, models), PartWorker(work, models)
    with claimed(tmp_path / "out", "00000.parquet") as ours:
        assert ours
        assert one.do(parts.parts[0]) is None
    assert one.do(parts.parts[0]).new
    assert not two.do(parts.parts[0]).new


def test_unreadable_parts_say_how_to_mend_them(shards, tmp_path):
    settings = RecaptionSettings(shards(2), tmp_path / "out", {"short": "scenes:coca"})
    recaption(settings)
    (tmp_path / "out" / "00000.parquet").write_bytes(b"PAR1 torn")
    assert recaption(settings).images == 2  # seen by its end
    (tmp_path / "out" / "recaption.json").write_text("{")
    with pytest.raises(InputError, match=r"recaption\.json cannot be read"):
        recaption(settings)
