"""The small language model's tokenizer: sentencepiece BPE in the layout of Llama, learnt from rendered prompts.

Text is taken as it is: no normalisation, no space put in front, nothing stripped. What is no piece is spelled in bytes,
the newline too, so that every text comes back letter for letter; only "▁" itself, which stands for a space, cannot.
The folder holds both forms of the one vocabulary: `tokenizer.model` for sentencepiece and `tokenizer.json` for
transformers and vLLM. Ids: 0 <unk> (never written, thanks to the bytes), 1 <s>, 2 </s>, 3 … 258 bytes, then pieces.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaTokenizer

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2
_ASCII = "".join(chr(code) for code in range(33, 127))
_SMALLEST = 3 + 256 + len(_ASCII) + 1


def train_sentencepiece(prompts: Iterable[str], vocab_size: int = 2048) -> SentencePieceProcessor:
    """Learn `vocab_size` pieces from prompts and, each once, the English words of `scenes/configs/words.txt`.

    Every printable ASCII character is a piece; digits stand alone; no piece spans words or lines. The same prompts give
    the same pieces. Raises `InputError` where the text does not yield as many.
    """
    import sentencepiece

    if vocab_size < _SMALLEST:
        raise InputError(f"vocab_size is {vocab_size}: bytes and ASCII alone take {_SMALLEST}")
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(prompts), model_writer=model, model_type="bpe", vocab_size=vocab_size,
            normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
            byte_fallback=True, split_digits=True, required_chars=_ASCII, character_coverage=0.9999,
            max_sentence_length=100_000, num_threads=1, minloglevel=2,
            unk_id=UNK_ID, bos_id=BOS_ID, eos_id=EOS_ID, pad_id=-1,
        )  # fmt: skip
    except RuntimeError as error:
        raise InputError(f"cannot learn {vocab_size} pieces: {error}; give more prompts or lower vocab_size") from error
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def save_tokenizer(pieces: SentencePieceProcessor, folder: Path, max_length: int) -> LlamaTokenizer:
    """Write `tokenizer.model`, `tokenizer.json` and `tokenizer_config.json` into `folder`; returns transformers' form.

    max_length: of a prompt and its answer together, in tokens.
    """
    tokenizer = llama_tokenizer(pieces, max_length)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(pieces.serialized_model_proto())
    return tokenizer


def llama_tokenizer(pieces: SentencePieceProcessor, max_length: int) -> LlamaTokenizer:
    """The same vocabulary as a `transformers.LlamaTokenizer`, which puts <s> in front of every text.

    "</s>" within a text is spelled letter by letter, as sentencepiece does it: no text can end itself.
    """
    from transformers import LlamaTokenizer

    vocab = {pieces.id_to_piece(i): i for i in range(pieces.get_piece_size())}
    return LlamaTokenizer(
        vocab=vocab, merges=_merges(vocab), unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>",
        add_bos_token=True, add_eos_token=False, add_prefix_space=False, split_special_tokens=True,
        clean_up_tokenization_spaces=False, model_max_length=max_length,
    )  # fmt: skip


def load_sentencepiece(folder: Path) -> SentencePieceProcessor:
    """The `tokenizer.model` of a folder. Raises `InputError` where there is none."""
    import sentencepiece

    path = folder / "tokenizer.model"
    if not path.is_file():
        raise InputError(f"{path} is missing: expected the folder of a trained language model")
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def _lines(prompts: Iterable[str]) -> Iterator[str]:
    """Single lines: a newline that the trainer never sees stays out of the pieces, and is spelled as its byte."""
    for prompt in prompts:
        yield from (line for line in prompt.split("\n") if line)
    words = files("textlens.scenes").joinpath("configs/words.txt").read_text(encoding="utf-8").split()
    yield from (f"{word} {word.capitalize()} {word}" for word in words)


def _merges(vocab: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to put a piece together out of two others, in the order in which sentencepiece prefers the results."""
    merges = []
    for piece, rank in vocab.items():
        if rank < 3 + 256:
            continue
        splits = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        possible = [(one, other) for one, other in splits if one in vocab and other in vocab]
        merges += sorted(possible, key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
    return merges
