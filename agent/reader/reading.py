"""Queries through a language model in one batch: rendered, fitted into its context, completed, parsed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import TextlensError
from ...prompting.fewshot import Fitted, fit_prompt
from ...prompting.templates import Shot, Template
from ..models.base import Completion, CountsTokens, LanguageModel

_SPECIAL = 8  # tokens that a model may put around a prompt, at most


@dataclass(frozen=True)
class Generation:
    """How to write an answer; see `LanguageModel.complete`."""

    max_tokens: int
    temperature: float
    seed: int
    choices: tuple[str, ...] | None = None

    @property
    def longest_answer(self) -> int:
        """Tokens to keep free behind the prompt; no token is shorter than a byte."""
        return max((len(choice.encode()) + 1 for choice in self.choices or ()), default=self.max_tokens)


@dataclass(frozen=True)
class Reading:
    """What became of one query. answer: as parsed, or None with an `error`. note: dropped shots, a cut-off answer."""

    prompt: str | None
    completion: Completion | None
    answer: str | None
    error: str | None
    note: str | None = None


def read(
    model: LanguageModel,
    template: Template,
    queries: Sequence[Shot],
    shots: Sequence[Sequence[Shot]],
    settings: Generation,
) -> list[Reading]:
    """One reading per query, in their order; `shots[i]` stand before query i. No query's failure loses another."""
    if not queries:
        return []
    fitted = fit(model, template, queries, shots, settings.longest_answer)
    sent = {i: one for i, one in enumerate(fitted) if isinstance(one, Fitted)}
    completions = model.complete(
        [one.prompt for one in sent.values()],
        max_tokens=settings.max_tokens,
        stop=template.stop,
        temperature=settings.temperature,
        seed=settings.seed,
        choices=settings.choices,
    )
    choices = settings.choices or ()
    parsed = {i: _parsed(template, sent[i], made, choices) for i, made in zip(sent, completions, strict=True)}
    return [parsed.get(i) or Reading(None, None, None, str(one)) for i, one in enumerate(fitted)]


def fit(
    model: LanguageModel,
    template: Template,
    queries: Sequence[Shot],
    shots: Sequence[Sequence[Shot]],
    reserve: int,
) -> list[Fitted | TextlensError]:
    """The prompts, with as many shots as leave `reserve` tokens free, or the error of a query too long by itself.

    Queries that have the very same list of shots all drop what the longest of them must: their prefix stays shared.
    A model that counts no tokens gets all shots.
    """
    prompts = _rendered(template, queries, shots)
    whole = [Fitted(prompt, 0, tuple(own)) for prompt, own in zip(prompts, shots, strict=True)]
    if not isinstance(model, CountsTokens) or (limit := model.context_length) is None:
        return [*whole]
    room = limit - reserve
    results: list[Fitted | TextlensError] = [*whole]
    dropped: dict[int, int] = {}
    for i, entire in enumerate(whole):
        try:
            if is_longer(model, entire.prompt, room):
                made = fit_prompt(template, queries[i], shots[i], count_tokens=model.count_tokens, max_tokens=room)
                dropped[id(shots[i])] = max(made.dropped, dropped.get(id(shots[i]), 0))
        except TextlensError as error:
            results[i] = error
    for i, one in enumerate(results):
        if isinstance(one, Fitted) and (drop := dropped.get(id(shots[i]), 0)):
            note = f"{drop} of {len(shots[i])} shots dropped: more than {room} tokens"
            kept = shots[i][drop:]
            results[i] = Fitted(template.render(queries[i], kept), 0, tuple(kept), drop, note)
    return results


def is_longer(model: CountsTokens, prompt: str, room: int) -> bool:
    """Whether a prompt takes more than `room` tokens. A short one is not counted, which may cost a request: no token
    is shorter than a byte."""
    return len(prompt.encode(errors="surrogatepass")) + _SPECIAL > room and model.count_tokens(prompt) > room


def _rendered(template: Template, queries: Sequence[Shot], shots: Sequence[Sequence[Shot]]) -> list[str]:
    """As `template.render` makes them; shots that several queries have in common are rendered once."""
    prefixes = {id(own): template.prefix(own) for own in {id(own): own for own in shots}.values()}
    head = len(template.prefix())
    return [prefixes[id(own)] + template.render(query)[head:] for query, own in zip(queries, shots, strict=True)]


def _parsed(template: Template, sent: Fitted, completion: Completion, choices: Sequence[str]) -> Reading:
    cut = f"the answer was cut off after {completion.completion_tokens} tokens" if completion.cut_off else None
    note = "; ".join(part for part in (sent.note, cut) if part) or None
    if completion.error is not None:
        return Reading(sent.prompt, completion, None, completion.error, note)
    if completion.text in choices:  # whatever it holds, a stop mark too: there is nothing to look for
        return Reading(sent.prompt, completion, completion.text.removeprefix(" "), None, note)
    parsed = template.parse(completion.text)
    return Reading(sent.prompt, completion, parsed.answer, parsed.error, note)
