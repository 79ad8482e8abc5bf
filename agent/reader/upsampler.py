"""Prompt upsampling: a language model rewrites prompts in one batch; each rewrite is checked against its prompt."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import InputError, TextlensError, shortened
from ...prompting.prompt_syntax import parse_prompt
from ...prompting.prompt_syntax.prompt_formats import Form
from ...prompting.rewrites import Mode, TokenCounter, Upsampled, in_form, select_rewrite
from ...prompting.templates import Shot
from ...prompting.upsampling import WORKED_PAIRS, UpsampleTemplate
from ..models.base import CountsTokens, LanguageModel, Request
from .answers import Upsampling
from .reading import is_longer, read

CLIP = "clip"


def upsample(
    language_model: LanguageModel,
    prompts: Sequence[str],
    *,
    template: UpsampleTemplate | None = None,
    shots: Sequence[Shot] = WORKED_PAIRS,
    mode: Mode = "rewrite",
    form: Form = "plain",
    count_tokens: TokenCounter | None = None,
    token_limit: int | None = None,
    max_tokens: int = 192,
    temperature: float = 0.7,
    seed: int = 0,
) -> list[Upsampling]:
    """Rewrite short prompts for an image generator. A prompt without a usable rewrite comes back as it is, flagged
    "failed", with the reason as its error.

    The model sees the words alone; weights, networks, flags and negatives are put back (`prompting/prompt_syntax`).

    mode: "append" keeps the prompt word for word and puts details behind it.
    form: how the result is written: "plain", "a1111" or "midjourney", see `prompt_formats`.
    template: by default the full one, or the brief one for a model with a short context.
    temperature: above 0, so that each seed gives another rewrite.
    count_tokens, token_limit: the maximum length of a rewrite, in the image generator's tokens, before it is put
        in form.
    """
    if (count_tokens is None) != (token_limit is None):
        raise InputError("a token limit needs both token_limit and count_tokens, the target's own tokenizer")
    in_form(Upsampled("", ""), form)  # unknown names, before minutes of work
    select_rewrite("a dog", None, mode=mode)
    queries = [Shot(question=parse_prompt(prompt).spoken) for prompt in prompts]
    template = template or _upsample_template(language_model, queries, shots, max_tokens)
    request = Request(max_tokens, template.stop, temperature, seed)
    readings = read(language_model, template, queries, [shots] * len(queries), request)
    made = []
    for prompt, one in zip(prompts, readings, strict=True):
        error = one.error
        if one.completion is not None and one.completion.cut_off:
            error = f"the rewrite was cut off at {max_tokens} tokens"
        rewritten = None if error else one.answer
        try:
            settled = select_rewrite(
                prompt, rewritten, error=error, mode=mode, count_tokens=count_tokens, max_tokens=token_limit
            )
        except InputError as refusal:
            settled = Upsampled(prompt, prompt, flags=("failed",), error=str(refusal))
        made.append(Upsampling(in_form(settled, form), one.prompt, one.completion, language_model.spec, one.note))
    return made


def token_counter(tokenizer: str = CLIP) -> TokenCounter:
    """Counts tokens as an image generator does, begin and end token included: 77 fill a CLIP text encoder.

    tokenizer: "clip" (OpenAI's, which Stable Diffusion uses; comes with open_clip), or the hub id or folder of a
    transformers tokenizer. Raises `InputError` if it does not load.
    """
    if tokenizer == CLIP:
        from open_clip.tokenizer import SimpleTokenizer

        clip = SimpleTokenizer()
        return lambda text: len(clip.encode(text)) + 2
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise InputError(
            f"{tokenizer!r} does not load as a tokenizer: {shortened(error, 400)}; expected clip, or a folder"
        ) from error
    return lambda text: len(loaded(text, truncation=False, verbose=False)["input_ids"])


def _upsample_template(
    model: LanguageModel, queries: Sequence[Shot], shots: Sequence[Shot], max_tokens: int
) -> UpsampleTemplate:
    full = UpsampleTemplate()
    if isinstance(model, CountsTokens) and (limit := model.context_length) is not None:
        try:
            if any(is_longer(model, full.render(query, shots), limit - max_tokens) for query in queries):
                return UpsampleTemplate.brief()
        except TextlensError:
            pass  # `read` reports it as the prompt's error
    return full
