"""The tokens of a text encoder that De-Diffusion may write: whole words and numbers that survive as text."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END_OF_WORD = "</w>"  # of the last piece of a word, in CLIP's tokenizer
CONTINUATION = "##"  # before every piece of a word but the first, in BERT's


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The kept tokens of `tokenizer`; build it with `from_tokenizer`."""

    tokenizer: PreTrainedTokenizerBase  # CLIP's or BERT's
    ids: Tensor  # (V,) int64, ascending
    words: tuple[str, ...]  # their V texts
    total: int  # tokens of the tokenizer

    @classmethod
    def from_tokenizer(
        cls, tokenizer: PreTrainedTokenizerBase, *, keep_punctuation: bool = False, words: Collection[str] | None = None
    ) -> Vocabulary:
        """Keep whole words of letters and digits whose text encodes to the same token again.

        Out go special tokens, pieces of words, upper case (which they never write), and control characters.
        keep_punctuation: keep punctuation and symbols (the paper's ablation). words: keep these alone, such as the
        words that the decoder has learned. Raises `InputError` if no token is left.
        """
        ids = _whole_words(tokenizer)
        texts = _decode(tokenizer, [[i] for i in ids])
        wanted = set(texts if words is None else words)
        kept = {
            i: text
            for i, text, again in zip(ids, texts, _encode(tokenizer, texts), strict=True)
            if again == [i] and text in wanted and (text.isalnum() or keep_punctuation) and not _has_control(text)
        }
        if not kept:
            raise InputError(
                f"no token of this {type(tokenizer).__name__} is a whole word that survives decoding and encoding; "
                f"expected CLIP's, whose tokens end words with {END_OF_WORD!r}, or BERT's, which go on with "
                f"{CONTINUATION!r}" + ("" if words is None else f", and one of the {len(wanted)} given words")
            )
        return cls(tokenizer, torch.tensor(list(kept)), tuple(kept.values()), len(tokenizer))

    def __len__(self) -> int:
        return len(self.words)

    def texts(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """B rows of the tokenizer's ids -> B texts: words joined by single spaces."""
        return _decode(self.tokenizer, _rows(ids))

    def share_surviving(self, ids: Tensor | Sequence[Sequence[int]]) -> float:
        """Share of B rows of ids whose text encodes to the same ids again."""
        rows = _rows(ids)
        if not rows:
            raise InputError("no texts to check; expected at least one row of token ids")
        again = _encode(self.tokenizer, _decode(self.tokenizer, rows))
        return sum(one == other for one, other in zip(rows, again, strict=True)) / len(rows)


def _whole_words(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids, in order, of the tokens that are no mere piece of a word."""
    special, vocabulary = set(tokenizer.all_special_ids), tokenizer.get_vocab()
    pieces = {piece: i for piece, i in vocabulary.items() if i not in special}
    whole = [i for piece, i in pieces.items() if piece.endswith(END_OF_WORD)]
    if not whole and any(piece.startswith(CONTINUATION) for piece in pieces):
        whole = [i for piece, i in pieces.items() if not piece.startswith(CONTINUATION)]
    return sorted(whole)


def _has_control(text: str) -> bool:
    return any(unicodedata.category(character).startswith("C") for character in text)


def _rows(ids: Tensor | Sequence[Sequence[int]]) -> list[list[int]]:
    return ids.tolist() if isinstance(ids, Tensor) else [list(row) for row in ids]


def _decode(tokenizer: PreTrainedTokenizerBase, rows: list[list[int]]) -> list[str]:
    # No clean-up, which joins punctuation to the word before.
    texts = tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
    return [" ".join(text.split()) for text in texts]


def _encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False).input_ids
