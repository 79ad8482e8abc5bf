"""Captioning: descriptions in, one caption in the manner of a data set out."""

from __future__ import annotations

from dataclasses import dataclass

from .templates import PAPER_END, Shot, Template, line


@dataclass(frozen=True, kw_only=True)
class CaptionTemplate(Template):
    """The format of De-Diffusion (arXiv 2311.00618): a line that names the data set, then context and caption.

    dataset: whose manner the caption has. end: as in `VQATemplate`.
    """

    dataset: str = "MS COCO"
    context_field: str = "Image context"
    answer_field: str = "Image caption"
    end: str = ""

    @classmethod
    def paper(cls, dataset: str = "MS COCO") -> CaptionTemplate:
        """The paper's format: no quotes, and "$" behind captions."""
        return cls(dataset=dataset, quote=False, end=PAPER_END)

    @property
    def head(self) -> str:
        return f"{self.dataset} image captioning."

    @property
    def fields(self) -> tuple[str, ...]:
        return (self.context_field, self.answer_field)

    @property
    def mark(self) -> str:
        return self.end

    @property
    def stop(self) -> tuple[str, ...]:
        return ("\n",)

    def example(self, shot: Shot) -> list[str]:
        answer = "" if shot.answer is None else self.answer(shot.answer) + self.end
        return [*self.context_lines(self.context_field, shot.context), line(self.answer_field, answer)]
