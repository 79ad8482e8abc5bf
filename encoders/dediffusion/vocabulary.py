"""Which tokens of a CLIP tokenizer De-Diffusion may write: whole words and numbers that survive as text."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import InputError

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

END_OF_WORD = "</w>"
KEPT = "kept"
REASONS = ("special", "not a whole word", "does not survive", "control", "punctuation", "not among the given words")


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The kept tokens of `tokenizer`; build it with `from_tokenizer`.

    ids: LongTensor (V,), ascending. words: their V texts. total: tokens of the tokenizer. excluded: how many went, by
    reason, each token under the first that holds: "special"; "not a whole word" (a piece that goes on, or a bare byte);
    "does not survive" (decoding and encoding gives other ids, as for the upper case that CLIP never writes);
    "control" (control and format characters); "punctuation" (anything but letters and digits, so symbols too);
    "not among the given words", where there are such.
    """

    tokenizer: CLIPTokenizer
    ids: Tensor
    words: tuple[str, ...]
    total: int
    excluded: Mapping[str, int]

    @classmethod
    def from_tokenizer(
        cls, tokenizer: CLIPTokenizer, *, keep_punctuation: bool = False, words: Collection[str] | None = None
    ) -> Vocabulary:
        """keep_punctuation: keep punctuation and symbols that survive, for the paper's ablation. words: keep none but
        these, such as those that the decoder has learnt; None for all.

        Raises `InputError` for a tokenizer without a single such token, as one that marks no ends of words.
        """
        total = len(tokenizer)
        verdicts, texts = _judge(tokenizer, total)
        if keep_punctuation:
            verdicts = [KEPT if verdict == "punctuation" else verdict for verdict in verdicts]
        if words is not None:
            wanted = set(words)
            verdicts = [REASONS[-1] if v == KEPT and texts[i] not in wanted else v for i, v in enumerate(verdicts)]
        kept = [i for i, verdict in enumerate(verdicts) if verdict == KEPT]
        if not kept:
            raise InputError(
                f"no token of this {type(tokenizer).__name__} is a whole word that survives decoding and encoding; "
                f"expected a CLIPTokenizer, whose tokens end words with {END_OF_WORD!r}"
                + ("" if words is None else f", and one of the {len(set(words))} given words")
            )
        counts = Counter(verdicts)
        unasked = {"punctuation"} if keep_punctuation else set()
        unasked |= {REASONS[-1]} if words is None else set()
        excluded = {reason: counts[reason] for reason in REASONS if reason not in unasked}
        return cls(tokenizer, torch.tensor(kept), tuple(texts[i] for i in kept), total, excluded)

    def __len__(self) -> int:
        return len(self.words)

    def texts(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """B rows of the tokenizer's ids -> B texts: words joined by single spaces."""
        return _decode(self.tokenizer, _rows(ids))

    def share_surviving(self, ids: Tensor | Sequence[Sequence[int]]) -> float:
        """The share of B rows of ids whose whole text, decoded and encoded again, gives the same ids."""
        rows = _rows(ids)
        if not rows:
            raise InputError("no texts to check; expected at least one row of token ids")
        again = _encode(self.tokenizer, _decode(self.tokenizer, rows))
        return sum(one == other for one, other in zip(rows, again, strict=True)) / len(rows)

    def report(self) -> str:
        """One line: how many tokens are kept, and how many went for which reason."""
        gone = ", ".join(f"{reason} {count:,}" for reason, count in self.excluded.items())
        return (
            f"{len(self):,} of {self.total:,} tokens kept, {self.total - len(self):,} excluded "
            f"({1 - len(self) / self.total:.1%}): {gone}"
        )


def _judge(tokenizer: CLIPTokenizer, total: int) -> tuple[list[str], dict[int, str]]:
    """For each token why it goes, or "kept"; and the texts of those that end a word."""
    special = set(tokenizer.all_special_ids)
    final = sorted(i for piece, i in tokenizer.get_vocab().items() if piece.endswith(END_OF_WORD) and i not in special)
    texts = _decode(tokenizer, [[i] for i in final])
    encoded = _encode(tokenizer, texts)
    verdicts = ["special" if i in special else "not a whole word" for i in range(total)]
    for i, text, ids in zip(final, texts, encoded, strict=True):
        verdicts[i] = _verdict(text) if ids == [i] else "does not survive"
    return verdicts, dict(zip(final, texts, strict=True))


def _verdict(text: str) -> str:
    if any(unicodedata.category(character).startswith("C") for character in text):
        return "control"
    return KEPT if text.isalnum() else "punctuation"


def _rows(ids: Tensor | Sequence[Sequence[int]]) -> list[list[int]]:
    return ids.tolist() if isinstance(ids, Tensor) else [list(row) for row in ids]


def _decode(tokenizer: CLIPTokenizer, rows: list[list[int]]) -> list[str]:
    # The clean-up would glue contractions and punctuation to the word before; here text is words and single spaces.
    texts = tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
    return [" ".join(text.split()) for text in texts]


def _encode(tokenizer: CLIPTokenizer, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, add_special_tokens=False, return_attention_mask=False).input_ids
