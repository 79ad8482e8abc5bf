"""Prompt upsampling by a language model: rewritten in one batch, then checked against the originals."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import InputError, TextlensError
from ...prompting.rewrites import TokenCounter, Upsampled, select_rewrite
from ...prompting.templates import Shot
from ...prompting.upsampling import WORKED_PAIRS, UpsampleTemplate
from ..models.base import CountsTokens, LanguageModel
from .answers import Upsampling
from .reading import Generation, is_longer, read


def upsample(
    language_model: LanguageModel,
    prompts: Sequence[str],
    *,
    template: UpsampleTemplate | None = None,
    shots: Sequence[Shot] = WORKED_PAIRS,
    count_tokens: TokenCounter | None = None,
    token_limit: int | None = None,
    max_tokens: int = 192,
    temperature: float = 0.7,
    seed: int = 0,
) -> list[Upsampling]:
    """Rewrite short prompts for an image generator; an unfaithful rewrite gives way to the prompt (`select_rewrite`).

    template: by default the full one, or the brief one for a model whose context cannot hold it.
    temperature: not 0, so that another seed gives another rewrite.
    count_tokens, token_limit: how long a rewrite may be, in the tokens of the generator that reads it.
    A prompt that cannot be rewritten comes back as it is, flagged "failed", with the reason as its error.
    """
    if (count_tokens is None) != (token_limit is None):
        raise InputError("a token limit needs both token_limit and count_tokens, the target's own tokenizer")
    settings = Generation(max_tokens, temperature, seed)
    queries = [Shot(question=prompt) for prompt in prompts]
    template = template or _upsample_template(language_model, queries, shots, max_tokens)
    reads = read(language_model, template, queries, [shots] * len(queries), settings)
    made = []
    for prompt, one in zip(prompts, reads, strict=True):
        error = one.error
        if one.completion is not None and one.completion.cut_off:
            error = f"the rewrite was cut off at {max_tokens} tokens"
        rewritten = None if error else one.answer
        try:
            settled = select_rewrite(prompt, rewritten, error=error, count_tokens=count_tokens, max_tokens=token_limit)
        except InputError as refusal:
            settled = Upsampled(prompt, prompt, flags=("failed",), error=str(refusal))
        made.append(Upsampling(settled, one.prompt, one.completion, language_model.spec, one.note))
    return made


def _upsample_template(
    model: LanguageModel, queries: Sequence[Shot], shots: Sequence[Shot], max_tokens: int
) -> UpsampleTemplate:
    full = UpsampleTemplate()
    if isinstance(model, CountsTokens) and (limit := model.context_length) is not None:
        try:
            if any(is_longer(model, full.render(query, shots), limit - max_tokens) for query in queries):
                return UpsampleTemplate.brief()
        except TextlensError:
            pass  # the prompt that cannot be counted gets its own error later
    return full
