"""Open-ended classification: descriptions in, one of the named classes out, as written text."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from .templates import Parsed, Shot, Template, line


@dataclass(frozen=True, kw_only=True)
class ClassificationTemplate(Template):
    """The format of De-Diffusion (arXiv 2311.00618) for the task of Frozen (arXiv 2106.13884).

    labels: the class names, which may be made up ("dax", "blicket").
    induction: the first line names the classes; False is "without task induction", where only the shots show them.
    """

    labels: tuple[str, ...]
    induction: bool = True
    context_field: str = "Context"
    answer_field: str = "Class"

    def __post_init__(self) -> None:
        known = {label.casefold() for label in self.labels}
        if not self.labels or len(known) < len(self.labels):
            raise InputError(f"got labels {list(self.labels)}: expected one or more, each different from the others")
        for label in self.labels:
            plain = self.clean(label)
            if not plain or label != plain or '"' in label:
                fix = f"; as in {plain!r}" if plain and label != plain and '"' not in plain else ""
                raise InputError(
                    f"label {label!r} cannot stand in a prompt: expected one line of text without quotes, field names "
                    f"and the shape of a special token, <x>, [x] or |x|{fix}"
                )

    @classmethod
    def paper(cls, labels: tuple[str, ...], *, induction: bool = True) -> ClassificationTemplate:
        """The paper's format: no quotes around descriptions."""
        return cls(labels=labels, induction=induction, quote=False)

    @property
    def head(self) -> str:
        return f"Classify the context into {_listed(self.labels)}." if self.induction else ""

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.context_field, self.answer_field)

    @property
    def stop(self) -> tuple[str, ...]:
        """A full stop ends a class, unless a class has one in its name ("St. Bernard")."""
        return ("\n",) if any("." in label for label in self.labels) else (".", "\n")

    def example(self, shot: Shot) -> list[str]:
        answer = "" if shot.answer is None else f"{self.answer(shot.answer)}."
        return [*self.context_lines(self.context_field, shot.context), line(self.answer_field, answer)]

    def answer(self, text: str) -> str:
        """The label. Raises `InputError` for any other text."""
        if text not in self.labels:
            raise InputError(f"a shot has the class {text!r}: expected one of {', '.join(self.labels)}")
        return text

    def parse(self, completion: str) -> Parsed:
        """Exactly one of the labels, in any case, with or without quotes and full stop. All else is an error."""
        parsed = super().parse(completion)
        if parsed.answer is None:
            return parsed
        by_name = {label.casefold(): label for label in self.labels}
        for written in (parsed.answer, parsed.answer.removesuffix(".")):
            name = written.strip().strip("\"'“”").casefold()
            if name in by_name:
                return Parsed(by_name[name])
        return Parsed(None, f"{parsed.answer!r} is none of the classes {', '.join(self.labels)}")


def _listed(labels: tuple[str, ...]) -> str:
    """ "lion" or "vase"; "lion", "vase" or "dog"."""
    names = [f'"{label}"' for label in labels]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
