from __future__ import annotations

import itertools

import pytest
import torch
from textlens.encoders.decap.decap_decoder import DecapDecoder
from textlens.errors import InputError
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config

END = 5


def new_decoder(vocabulary: int = 60, seed: int = 0, *, end_boost: float = 0.0, width: int = 32) -> DecapDecoder:
    """Random weights, scaled up so that captions differ. end_boost: above 0 captions end at different lengths."""
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=30, n_embd=width, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=END
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoder = DecapDecoder(16, config, END).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim == 2:
                parameter.mul_(8)
        decoder.decoder.transformer.wte.weight[END].mul_(1 + end_boost)
    return decoder


def embeddings(rows: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


@torch.no_grad()
def full_prefix_greedy(decoder: DecapDecoder, embedding: Tensor, max_tokens: int) -> tuple[int, ...]:
    """The official notebook's `Decoding`: everything again for each token, one caption at a time, no cache."""
    inputs = decoder.prefix(embedding)[None, None]
    ids: list[int] = []
    for _ in range(max_tokens):
        chosen = decoder.decoder(inputs_embeds=inputs).logits[:, -1].softmax(-1).argmax(-1)
        ids.append(int(chosen))
        if ids[-1] == END:
            break
        inputs = torch.cat([inputs, decoder.decoder.transformer.wte(chosen)[None]], dim=1)
    return tuple(i for i in ids if i != END)


def test_batched_cached_decoding_is_full_prefix_decoding() -> None:
    decoder, prefixes = new_decoder(end_boost=1.0), embeddings(14)
    expected = [full_prefix_greedy(decoder, row, 20) for row in prefixes]
    written = decoder.generate(prefixes, max_tokens=20)
    assert [one.ids for one in written] == expected
    lengths = {len(ids) for ids in expected}
    assert len(lengths) > 2  # captions end at different steps
    assert max(lengths) == 20  # and some do not end at all


def test_log_probability_is_that_of_the_words_and_the_end() -> None:
    decoder, prefixes = new_decoder(end_boost=1.0), embeddings(6)
    for embedding, one in zip(prefixes, decoder.generate(prefixes, max_tokens=12), strict=True):
        ids = torch.tensor([[*one.ids, END]])[:, :12]
        with torch.no_grad():
            logits = decoder(embedding[None], ids)
        expected = logits.log_softmax(-1).gather(2, ids[..., None]).sum()
        assert one.log_probability == pytest.approx(float(expected), abs=1e-3)


def test_enough_beams_find_the_best_of_all_texts() -> None:
    decoder = new_decoder(vocabulary=6)
    others = [i for i in range(6) if i != END]
    candidates = [(*words, END) for n in range(3) for words in itertools.product(others, repeat=n)]
    candidates += list(itertools.product(others, repeat=3))  # cut off
    for embedding in embeddings(5):
        scores = {}
        for length in (1, 2, 3):
            ids = torch.tensor([row for row in candidates if len(row) == length])
            with torch.no_grad():
                logits = decoder(embedding.expand(len(ids), -1), ids)
            steps = logits.log_softmax(-1).gather(2, ids[..., None])
            scores.update(zip(map(tuple, ids.tolist()), steps.mean((1, 2)).tolist(), strict=True))
        best = max(scores, key=lambda ids: scores[ids])
        (found,) = decoder.generate(embedding[None], max_tokens=3, num_beams=130)
        assert found.ids == tuple(i for i in best if i != END)


def test_beams_of_a_batch_are_those_of_each_alone() -> None:
    decoder, prefixes = new_decoder(end_boost=1.0), embeddings(9)
    together = decoder.generate(prefixes, max_tokens=15, num_beams=4)
    alone = [decoder.generate(row[None], max_tokens=15, num_beams=4)[0] for row in prefixes]
    assert [one.ids for one in together] == [one.ids for one in alone]


def test_padding_behind_a_caption_changes_none_of_its_logits() -> None:
    decoder, prefixes = new_decoder(), embeddings(2)
    ids = torch.randint(0, 60, (2, 9), generator=torch.Generator().manual_seed(1))
    other = ids.clone()
    other[:, 5:] = 0
    with torch.no_grad():
        torch.testing.assert_close(decoder(prefixes, ids)[:, :6], decoder(prefixes, other)[:, :6])


def test_bad_input() -> None:
    decoder = new_decoder()
    assert decoder.generate(torch.empty(0, 16)) == []
    with pytest.raises(InputError, match=r"1 of 2 embeddings hold NaN .*row 1"):
        decoder.generate(torch.stack([torch.ones(16), torch.full((16,), torch.nan)]))
    with pytest.raises(InputError, match="max_tokens is 31; expected 1 to 30"):
        decoder.generate(embeddings(1), max_tokens=31)
    with pytest.raises(InputError, match="num_beams is 0"):
        decoder.generate(embeddings(1), num_beams=0)
