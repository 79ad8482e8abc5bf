"""Captions alone, in text files."""

import gzip

import pytest
from textlens.errors import InputError
from textlens.train.data.files import FileData


def opened(spec, texts=True, **settings):
    return FileData(f"texts:{spec}", **{"held_out_share": 0.0} | settings).open(image_size=64, texts=texts)


@pytest.fixture
def captions(tmp_path):
    """100 captions, every one twice, gzipped."""
    path = tmp_path / "captions.txt.gz"
    path.write_bytes(gzip.compress("".join(f"caption {number % 100}\n" for number in range(200)).encode()))
    return path


def test_every_line_is_a_caption(captions):
    source = opened(captions)
    assert list(source.captions()) == [f"caption {number % 100}" for number in range(200)]
    sample = source.sample(3, 0, image=False)
    line = int(sample.text.split()[1]) + 1
    assert sample.key in (f"{captions}: line {line}", f"{captions}: line {line + 100}")
    assert len({source.sample(index, 0, image=False).key for index in range(200)}) == 200


def test_equal_captions_are_on_one_side(captions):
    source = opened(captions, held_out_share=0.2)
    held = {sample.text for sample in source.held_out(200)}
    assert len(held) > 5
    assert held.isdisjoint(source.captions())
    assert source.size + len(source.held_out(200)) == 200


@pytest.mark.parametrize(("column", "expected"), [("2", ["words", "a cat", "b dog"]), ("words", ["a cat", "b dog"])])
def test_a_column_of_tab_separated_values(tmp_path, column, expected):
    (tmp_path / "a.tsv").write_text("source\twords\nx\ta cat\ny\tb dog\nshort\n")
    source = opened(tmp_path / "a.tsv", text=column)
    assert list(source.captions()) == expected
    assert source.take_skipped() == [f"{tmp_path}/a.tsv: line 4: the caption is empty"]


def test_errors_name_the_file_and_the_fix(tmp_path, captions):
    (tmp_path / "a.tsv").write_text("x\ta cat\n")
    with pytest.raises(InputError, match=r"a\.tsv has no column 'text'; its first line is 'x', 'a cat'"):
        opened(tmp_path / "a.tsv")
    with pytest.raises(InputError, match="matches no file"):
        opened(tmp_path / "none.txt")
    (tmp_path / "cut.txt.gz").write_bytes(captions.read_bytes()[:30])
    with pytest.raises(InputError, match=r"cut\.txt\.gz"):
        opened(tmp_path / "cut.txt.gz")
    with pytest.raises(InputError, match="texts alone"):
        opened(captions, texts=False)
    with pytest.raises(InputError, match="texts alone"):
        opened(captions).sample(0, 0)
