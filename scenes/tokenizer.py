"""A small CLIP tokenizer of our own: byte-pair encoding in CLIP's format, with every scene word a whole token.

Layout as in CLIP: 256 bytes, the same with the end-of-word mark, the merges, then the special tokens. Padding has an id
of its own (CLIP pads with end-of-text or with 0, which is "!"), and end-of-text has the highest id, because text towers
with `pool_type="argmax"` look for it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING

from ..errors import InputError
from .captions import COUNT_WORDS, FILLERS, PLACE_WORDS, SIZE_WORDS
from .world import BACKGROUNDS, COLOURS, NOUNS, PLACES, SIZES, phrase, plural

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

PAD, START, END = "<|pad|>", "<|startoftext|>", "<|endoftext|>"
_END_OF_WORD = "</w>"
_PUNCTUATION = (*".,;:!?'\"()-/&%$#@*+=|", "...")


def scene_words() -> set[str]:
    """Every lower-case word that a true caption of a scene can hold."""
    phrases: list[str] = [*PLACES, *SIZES, *COLOURS, *BACKGROUNDS, *FILLERS, *COUNT_WORDS.values()]
    phrases += [word for words in (*PLACE_WORDS.values(), *SIZE_WORDS.values()) for word in words]
    phrases += [text.lower() for noun in NOUNS for text in (noun, phrase(noun), plural(noun))]
    return {word for text in phrases for word in text.split()}


def _learn_merges(words: dict[str, int], number: int) -> list[tuple[str, str]]:
    """Byte-pair merges, most frequent pair first, ties broken by spelling so that the result is always the same."""
    spelled = {word: [*word[:-1], word[-1] + _END_OF_WORD] for word in words}
    merges: list[tuple[str, str]] = []
    while len(merges) < number:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in spelled.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for word, pieces in spelled.items():
            spelled[word] = _merge(pieces, best)
    return merges


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    whole = True  # a piece that was put together takes no part in the same pass again
    for piece in pieces:
        if merged and whole and (merged[-1], piece) == pair:
            merged[-1] += piece
            whole = False
        else:
            merged.append(piece)
            whole = True
    return merged


def _weighted(words: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Scene words count most, so that they become whole; then the common words by rank."""
    yield from ((word, 1_000_000) for word in sorted(scene_words() | set(_PUNCTUATION)))
    yield from ((word, max(1, 10_000 // rank)) for rank, word in enumerate(words, 1))


def build_tokenizer(vocab_size: int = 1920, context_length: int = 64) -> CLIPTokenizer:
    """A `transformers.CLIPTokenizer` with `vocab_size` tokens, learnt from scene words and common English words."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    words = files("textlens.scenes").joinpath("configs/words.txt").read_text(encoding="utf-8").split()
    alphabet = list(bytes_to_unicode().values())  # 256 printable characters that stand for bytes, as in GPT-2 and CLIP
    room = vocab_size - 2 * len(alphabet) - 3
    counts: Counter[str] = Counter()
    for word, weight in _weighted(words):
        counts[word] += weight
    merges = _learn_merges(counts, room)
    if len(merges) < room:
        raise InputError(f"vocab_size is {vocab_size}: the word list yields at most {vocab_size - room + len(merges)}")
    pieces = [*alphabet, *(a + _END_OF_WORD for a in alphabet), *(a + b for a, b in merges), PAD, START, END]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = CLIPTokenizer(
        vocab=vocab, merges=merges,  # type: ignore[arg-type]  # pairs are what its BPE model takes
        pad_token=PAD, bos_token=START, eos_token=END, unk_token=END,
        model_max_length=context_length,
    )  # fmt: skip
    whole = {word for word in scene_words() if len(tokenizer(word).input_ids) != 3}
    assert not whole, f"scene words that are not whole tokens: {sorted(whole)}"
    return tokenizer
