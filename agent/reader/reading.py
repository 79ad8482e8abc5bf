"""Queries through a language model in one batch: rendered, fitted to its context, completed, parsed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import TextlensError
from ...prompting.fewshot import Fitted, fit_prompt
from ...prompting.messages import Prompt
from ...prompting.templates import Shot, Template
from ..models.base import Completion, CountsTokens, LanguageModel, Request

_MARGIN = 64  # tokens: where shots and query meet, and the marks of a chat's turns
_SPECIAL = 8  # at most so many special tokens around a prompt


@dataclass(frozen=True)
class Reading:
    """The result of one query: a parsed answer or an error."""

    prompt: str | None
    completion: Completion | None
    answer: str | None
    error: str | None
    note: str | None = None  # dropped shots, a cut-off answer


def read(
    model: LanguageModel,
    template: Template,
    queries: Sequence[Shot],
    shots: Sequence[Sequence[Shot]],
    request: Request,
) -> list[Reading]:
    """One reading per query, in order; `shots[i]` are query i's. A failed query loses no other."""
    if not queries:
        return []
    fitted = fit(model, template, queries, shots, request.max_answer_tokens)
    sent = {i: one for i, one in enumerate(fitted) if isinstance(one, Fitted)}
    completions = model.complete([one.prompt for one in sent.values()], **request.parameters)
    choices = request.choices or ()
    parsed = {i: _parsed(template, sent[i], made, choices) for i, made in zip(sent, completions, strict=True)}
    return [parsed.get(i) or Reading(None, None, None, str(one)) for i, one in enumerate(fitted)]


def fit(
    model: LanguageModel,
    template: Template,
    queries: Sequence[Shot],
    shots: Sequence[Sequence[Shot]],
    reserve: int,
) -> list[Fitted | TextlensError]:
    """The prompts, with as many shots as leave `reserve` tokens free, or the error of a query that is too long alone.

    Queries with the same list of shots all drop as many as the longest of them, so that they keep a shared prefix.
    A model that counts no tokens gets all shots.
    """
    prompts = _rendered(template, queries, shots)
    whole = [Fitted(prompt, 0, tuple(own)) for prompt, own in zip(prompts, shots, strict=True)]
    if not isinstance(model, CountsTokens) or (limit := model.context_length) is None:
        return [*whole]
    room = limit - reserve
    results: list[Fitted | TextlensError] = [*whole]
    dropped: dict[int, int] = {}  # id of a list of shots -> how many
    is_long = _LengthCheck(model, template, shots, room)
    for i, entire in enumerate(whole):
        try:
            if is_long(entire.prompt, shots[i]):
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


class _LengthCheck:
    """`is_longer` for many prompts. Shots that several share are counted once: what follows has no more tokens than
    bytes, so that most prompts need no count, which may cost a request each."""

    def __init__(self, model: CountsTokens, template: Template, shots: Sequence[Sequence[Shot]], room: int) -> None:
        self._model, self._template, self._room = model, template, room
        self._uses = Counter(map(id, shots))
        self._saved: dict[int, int] = {}  # id of a list of shots -> bytes less tokens of its prefix

    def __call__(self, prompt: str, shots: Sequence[Shot]) -> bool:
        size = _bytes(prompt)
        if size + _SPECIAL > self._room and self._uses[id(shots)] > 1:
            if id(shots) not in self._saved:
                prefix = self._template.prefix(shots)
                self._saved[id(shots)] = _bytes(prefix) - self._model.count_tokens(prefix)
            size -= self._saved[id(shots)]
        return size + _MARGIN > self._room and is_longer(self._model, prompt, self._room)


def is_longer(model: CountsTokens, prompt: str, room: int) -> bool:
    """Whether a prompt has more than `room` tokens. A token is at least one byte, so short prompts need no count,
    which may cost a request."""
    return _bytes(prompt) + _SPECIAL > room and model.count_tokens(prompt) > room


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _rendered(template: Template, queries: Sequence[Shot], shots: Sequence[Sequence[Shot]]) -> list[Prompt]:
    """As `template.render` does; each list of shots is rendered once."""
    prefixes = {id(own): template.prefix(own) for own in {id(own): own for own in shots}.values()}
    return [prefixes[id(own)].then(template.query(query)) for query, own in zip(queries, shots, strict=True)]


def _parsed(template: Template, sent: Fitted, completion: Completion, choices: Sequence[str]) -> Reading:
    cut = f"the answer was cut off after {completion.completion_tokens} tokens" if completion.cut_off else None
    note = "; ".join(part for part in (sent.note, cut) if part) or None
    if completion.error is not None:
        return Reading(sent.prompt, completion, None, completion.error, note)
    if completion.text in choices:  # needs no parsing, even with a stop string in it
        return Reading(sent.prompt, completion, completion.text.removeprefix(" "), None, note)
    parsed = template.parse(completion.text)
    return Reading(sent.prompt, completion, parsed.answer, parsed.error, note)
