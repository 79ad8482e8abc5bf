"""Shards read in place: every sample once an epoch however the work is split, whatever is wrong with a shard."""

import os
from pathlib import Path

import pytest
from textlens.errors import InputError
from textlens.train.data.files import FileData
from textlens.train.data.patterns import expand_braces, local_files
from textlens.train.engine.batches import index_ranges


def opened(spec, texts=True, **settings):
    return FileData(f"webdataset:{spec}", **{"held_out_share": 0.0} | settings).open(image_size=64, texts=texts)


def one_sample(tmp_path, write_tar, png, members, **settings):
    write_tar(tmp_path / "one.tar", {"a.jpg": png(1)} | members)
    return opened(tmp_path / "one.tar", **settings).sample(0, 0)


@pytest.mark.parametrize("held_out_share", [0.0, 0.3])
def test_image_and_text_belong_together_and_each_comes_once_an_epoch(shards, held_out_share):
    source = opened(shards / "*.tar", held_out_share=held_out_share, shuffle_buffer=8)
    for epoch in range(2):
        samples = [source.sample(epoch * source.size + index, 5) for index in range(source.size)]
        assert len({sample.key for sample in samples}) == source.size
        assert all(sample.image.getpixel((0, 0))[0] == int(sample.text.split()[1]) for sample in samples)
    assert source.size + len(source.held_out(50)) == 50


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (2, 1), (1, 5), (2, 5)])
def test_processes_and_parts_share_an_epoch_and_a_resumed_run_goes_on_with_the_same_items(
    shards, processes, accumulation
):
    def keys(start, processes, accumulation):
        source = opened(shards / "*.tar", shuffle_buffer=8)  # each run opens its own
        shares = [index_ranges(start, 5, 10, accumulation, rank, processes) for rank in range(processes)]
        parts = [part for share in zip(*shares, strict=True) for part in share]
        return [source.sample(index, 3, image=False).key for part in parts for index in part]

    whole = keys(0, processes, accumulation)
    assert len(set(whole)) == len(whole) == 50
    assert whole == keys(0, 1, 1)
    assert keys(3, processes, accumulation) == whole[30:]


def test_held_out_samples_are_never_seen_and_come_from_all_over(shards):
    source, again = (opened(shards / "*.tar", held_out_share=0.4) for _ in range(2))
    held = [sample.key for sample in source.held_out(10)]
    assert held == [sample.key for sample in again.held_out(100)[:10]]
    assert len({key.split(":")[0] for key in held}) > 1
    assert held != sorted(held)
    seen = {source.sample(index, 0, image=False).key for index in range(3 * source.size)}
    assert not seen & {sample.key for sample in source.held_out(100)}
    assert set(source.captions()) == {source.sample(index, 0, image=False).text for index in range(source.size)}


def test_a_second_source_is_held_out_and_decoded_whenever_it_is_read(shards):
    source = opened(shards / "s-{00..03}.tar", held_out=f"webdataset:{shards}/s-04.tar", held_out_share=0.5)
    held = source.held_out(20)
    assert source.size == 40
    assert sorted(sample.text for sample in held) == [f"picture {number}" for number in range(40, 50)]
    assert held[0].image.getpixel((0, 0))[0] == int(held[0].text.split()[1])
    assert held[0].image is not held[0].image
    with pytest.raises(InputError, match="held_out is the source itself"):
        opened("a.tar", held_out="webdataset:a.tar")


def test_captions_in_json_fields(tmp_path, write_tar, png):
    assert one_sample(tmp_path, write_tar, png, {"a.json": {"captions": ["x", "y"]}}).texts == ("x", "y")
    assert one_sample(tmp_path, write_tar, png, {"a.json": {"caption": "x", "id": 3}}).texts == ("x",)
    assert one_sample(tmp_path, write_tar, png, {"a.json": {"words": "w"}}, text="json:words").text == "w"
    assert one_sample(tmp_path, write_tar, png, {"a.json": ["x", "y"]}, text="json").texts == ("x", "y")
    assert one_sample(tmp_path, write_tar, png, {"a.json": {"caption": "x"}, "a.txt": b"t\n"}).texts == ("t",)
    assert one_sample(tmp_path, write_tar, png, {"a.cap": b"c"}, text="cap").text == "c"


@pytest.mark.parametrize("text", ["text", "json", "json:words"])
def test_json_without_the_field_is_an_error_that_names_shard_key_and_fields(tmp_path, write_tar, png, text):
    with pytest.raises(InputError, match=r"one\.tar: a: its JSON has no .*but url, alt: .*json:url"):
        one_sample(tmp_path, write_tar, png, {"a.json": {"url": "u", "alt": "x"}}, text=text)


def test_endings_that_no_sample_has_are_an_error_that_lists_those_there_are(shards):
    with pytest.raises(
        InputError, match=r"no sample has a member that ends in jpg; .*s-00.tar has png, txt: set data.i"
    ):
        opened(shards / "*.tar", image="jpg")
    with pytest.raises(InputError, match=r"ends in json; .* has png, txt: set data.text"):
        opened(shards / "*.tar", text="json:captions")
    assert opened(shards / "*.tar", image="jpg;png").size == 50


def test_images_alone_need_no_texts(tmp_path, write_tar, png):
    assert one_sample(tmp_path, write_tar, png, {}, texts=False).texts == ()


def test_texts_alone_need_no_images(tmp_path, write_tar):
    source = opened(write_tar(tmp_path / "a.tar", {"a.txt": b"one", "b.txt": b"two"}), image=None)
    assert list(source.captions()) == ["one", "two"]


def test_unreadable_samples_are_named_by_shard_and_key(tmp_path, write_tar, png):
    members = {"good.jpg": png(0), "good.txt": b"good", "textless.jpg": png(1), "imageless.txt": b"no image"}
    members |= {"empty.jpg": png(2), "empty.txt": b" \n", "half.jpg": png(3)[:40], "half.txt": b"half an image"}
    members |= {"dict.jpg": png(4), "dict.json": {"caption": {"en": "x"}}, "bytes.jpg": png(5), "bytes.txt": b"\xff"}
    members |= {"list.jpg": png(6), "list.json": {"caption": []}, "broken.jpg": png(7), "broken.json": b"{"}
    members |= {"surrogate.jpg": png(8), "surrogate.json": b'{"caption": "\\ud800"}'}
    source = opened(write_tar(tmp_path / "a.tar", members))
    assert {source.sample(index, 0).text for index in range(source.size)} == {"good"}
    reasons = dict(line.removeprefix(f"{tmp_path}/a.tar: ").split(": ", 1) for line in source.take_skipped())
    assert reasons.pop("half").startswith("starts like PNG, but its header is damaged")
    assert reasons.pop("bytes").startswith("the text is damaged")
    assert reasons.pop("broken").startswith("the text is damaged")
    assert "surrogate pair" in reasons.pop("surrogate")
    assert reasons == {
        "textless": "has no text",
        "imageless": "has no image",
        "empty": "the caption is empty",
        "list": "the caption is empty",
        "dict": "the caption is dict with en; expected text",
    }


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.97])
def test_a_shard_that_was_cut_off_says_so_and_keeps_what_is_whole(tmp_path, write_tar, png, kept):
    members = {}
    for number in range(20):
        members |= {f"{number:02d}.png": png(number), f"{number:02d}.txt": b"a text " * 300}
    path = write_tar(tmp_path / "a.tar", members)
    end = 20 * (1024 + 512 + 2560)  # of the last member
    os.truncate(path, int(end * kept))
    source = opened(path)
    keys = {source.sample(index, 0).key.split(": ")[1] for index in range(source.size)}
    assert 8 < len(keys) < 20
    problems = {line for line in source.take_skipped() if "has no" not in line}
    assert 1 <= len(problems) <= 2  # the member that is cut, and what stood behind it
    assert all(problem.startswith(f"{path}: ") and "cut off" in problem for problem in problems)


def test_damage_inside_a_shard_is_named(tmp_path, write_tar, png):
    members = {name: png(0) if name.endswith("png") else b"x" for n in range(9) for name in (f"{n}.png", f"{n}.txt")}
    path = write_tar(tmp_path / "a.tar", members)
    content = bytearray(path.read_bytes())
    content[2048 * 5 : 2048 * 5 + 512] = os.urandom(512)  # the header of 5.png
    path.write_bytes(content)
    source = opened(path)
    assert {source.sample(index, 0).key.split(": ")[1] for index in range(50)} == {"0", "1", "2", "3", "4"}
    assert set(source.take_skipped()) == {f"{path}: after 4: the shard is damaged or cut off here"}


@pytest.mark.parametrize("content", [b"", b"no tar file" * 100, b"\x1f\x8b compressed"])
def test_what_is_no_tar_file_is_an_error_that_names_it(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"shard .*a\.tar cannot be opened"):
        opened(tmp_path / "a.tar")


def test_missing_and_remote_shards(tmp_path):
    with pytest.raises(InputError, match=r"none-\*\.tar' matches no file"):
        opened(tmp_path / "none-*.tar")
    with pytest.raises(InputError, match="download them first"):
        opened("https://example.org/a.tar")


def test_names_of_shards(shards):
    names = [str(shards / f"s-{number:02d}.tar") for number in range(5)]
    assert local_files(str(shards), ".tar") == local_files(f"{shards}/*.tar") == names
    assert local_files(f"{shards}/s-{{00..02}}.tar,{shards}/s-{{03,04}}.tar") == names
    assert expand_braces("a{8..10}-{x,y}") == ["a8-x", "a8-y", "a9-x", "a9-y", "a10-x", "a10-y"]


def test_the_index_is_kept_and_made_anew_for_another_file(shards, tmp_path, monkeypatch, write_tar, png):
    first = opened(shards / "*.tar")
    monkeypatch.setattr("tarfile.open", None)  # headers are not read again
    again = opened(shards / "*.tar")
    assert again.identity == first.identity
    assert again.sample(7, 0).text == first.sample(7, 0).text
    monkeypatch.undo()
    write_tar(shards / "s-02.tar", {"new.png": png(1), "new.txt": b"new", "newer.png": png(2), "newer.txt": b"newer"})
    changed = opened(shards / "*.tar")
    assert (changed.size, "new" in set(changed.captions())) == (51, True)
    assert changed.identity != first.identity


def test_a_cache_folder_that_cannot_be_written_costs_time_only(shards, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    source = opened(shards / "*.tar")
    assert len({source.sample(index, 0).key for index in range(50)}) == 50


def test_few_shards_are_open_at_a_time(tmp_path, png, write_tar):
    for number in range(60):
        write_tar(
            tmp_path / f"{number:02d}.tar",
            {f"{n}.{e}": png(n) if e == "png" else b"x" for n in range(5) for e in ("png", "txt")},
        )
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    source = opened(tmp_path, shuffle_buffer=10)
    most = 0
    for index in range(source.size):
        source.sample(index, 0)
        most = max(most, len(os.listdir("/proc/self/fd")) if before else 0)
    assert most - before < 15
