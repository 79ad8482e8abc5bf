"""`textlens recaption` on the command line, and its sheet."""

import json
import re
import sys

import pytest
from PIL import Image
from textlens.cli import app
from textlens.scenes.rendering import render
from textlens.scenes.scene import scene_at
from typer.testing import CliRunner

runner = CliRunner()


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(render(scene_at(number, "test"))).save(folder / f"{number}.png")
    captions = (json.dumps({"file_name": f"{n}.png", "text": f"<b>photo</b> {n}"}) for n in range(5))
    (folder / "metadata.jsonl").write_text("\n".join(captions))
    return folder


def recaption(*arguments):
    return runner.invoke(app, ["recaption", *map(str, arguments)], catch_exceptions=False)


def test_numbers_on_stdout_and_a_sheet_that_opens_alone(photos, tmp_path):
    (photos / "3.png").write_bytes(b"no image")
    (tmp_path / "deny.txt").write_text("background\n")
    out = tmp_path / "out"
    result = recaption(
        f"imagefolder:{photos}",
        out,
        "-e",
        "short=scenes:coca",
        "-e",
        "long=scenes:decap",
        "--deny",
        tmp_path / "deny.txt",
    )
    assert result.exit_code == 1
    told = json.loads(result.stdout.splitlines()[-1])
    assert (told["rows"], told["failed"], told["images_now"]) == (5, 1, 5)
    assert told["styles"]["short"] == {"written": 4, "kept": 0, "flagged": {"denied": 4, "failed": 1}}
    assert told["images_per_hour"] == pytest.approx(3600 * 5 / told["seconds"], rel=0.2)
    assert "3.png: not an image" in result.stderr
    page = (out / "sheet.html").read_text()
    assert "&lt;b&gt;photo&lt;/b&gt; 0" in page
    assert "<b>" not in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count('<span class="flag">denied</span>') == 8


def test_the_sheet_is_drawn_by_its_seed(photos, tmp_path):
    def keys(*options):
        assert (
            recaption(
                f"imagefolder:{photos}", tmp_path / "out", "-e", "scenes:coca", "--part-size", 2, *options
            ).exit_code
            == 0
        )
        return re.findall(r"<h2>(.*?)</h2>", (tmp_path / "out" / "sheet.html").read_text())

    drawn = [tuple(keys("--sheet", 2, "--seed", seed)) for seed in (1, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1
    assert {len(one) for one in drawn} == {2}
    assert len(keys()) == 5


@pytest.mark.parametrize(("options", "message"), [
    (["-e", "scenes:nothing"], "nothing"),
    (["-e", "scenes:coca", "--style", "a,b"], "would write the same caption"),
    ([], "no encoder was given"),
    (["-e", "scenes:coca", "--deny", "missing.txt"], "cannot be read"),
    (["-e", "scenes:coca", "--engine", "spark"], "unknown engine"),
    (["-e", "scenes:coca", "--clip", "missing/folder"], "missing"),
])  # fmt: skip
def test_bad_input_is_exit_code_2_without_traceback(photos, tmp_path, options, message, monkeypatch, capsys):
    from textlens.cli import main

    monkeypatch.setattr(
        sys, "argv", ["textlens", "recaption", f"imagefolder:{photos}", str(tmp_path / "out"), *options]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_all_failed_is_exit_code_2(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "0.tar").write_bytes(b"no tar" * 999)
    result = recaption(f"webdataset:{tmp_path}/0.tar", tmp_path / "out", "-e", "scenes:coca")
    assert result.exit_code == 2
    assert "0.tar cannot be opened" in result.stderr
