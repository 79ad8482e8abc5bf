"""Visual question answering: descriptions and a question in, a short answer out."""

from __future__ import annotations

from dataclasses import dataclass

from .templates import PAPER_END, Shot, Template, line


@dataclass(frozen=True, kw_only=True)
class VQATemplate(Template):
    """The format of De-Diffusion (arXiv 2311.00618), with the descriptions in quotes, and the line's end as the end of
    an answer.

    end: a mark behind every answer. The paper has "$", which `VQATemplate.paper()` writes; there it ends an answer
    unless it begins a price, and texts keep theirs, but for one at their end.
    """

    instruction: str = "Answer the question given the context."
    context_field: str = "Image context"
    question_field: str = "Image question"
    answer_field: str = "Short answer"
    end: str = ""

    @classmethod
    def paper(cls) -> VQATemplate:
        """The paper's format: no quotes, and "$" behind answers."""
        return cls(quote=False, end=PAPER_END)

    @property
    def head(self) -> str:
        return self.instruction

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.context_field, self.question_field, self.answer_field)

    @property
    def mark(self) -> str:
        return self.end

    @property
    def stop(self) -> tuple[str, ...]:
        return ("\n",)

    def example(self, shot: Shot) -> list[str]:
        answer = "" if shot.answer is None else self.answer(shot.answer) + self.end
        return [
            *self.context_lines(self.context_field, shot.context),
            line(self.question_field, self.clean(shot.question)),
            line(self.answer_field, answer),
        ]


VQA_PSEUDO = (
    Shot(question="What color is the car?", answer="red", id="pseudo-1"),
    Shot(question="Is there a tree?", answer="yes", id="pseudo-2"),
    Shot(question="How many cups are there?", answer="2", id="pseudo-3"),
    Shot(question="What is on the table?", answer="book", id="pseudo-4"),
)
"""Questions and answers of no image, one of each common kind: they show a zero-shot prompt the form of an answer."""
