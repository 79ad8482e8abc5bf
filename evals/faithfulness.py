"""How well the check tells broken rewrites from faithful ones. `python -m textlens.evals.faithfulness FILE…`

A file is JSON Lines: `{"original": …, "rewritten": …, "faithful": true or false, "kind": …, "split": …}`, the last two
optional. `tests/prompting/rewrites.jsonl` is one such file: its "held_out" pairs were written before the check was, and
no rule was changed for them. The floors call every rewrite faithful, or every one broken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..input_files import read_text
from ..prompting.faithfulness import check

Judge = Callable[[str, str], bool]
"""(original, rewritten) -> whether the rewrite is faithful."""


@dataclass(frozen=True)
class RewritePair:
    """A prompt, a rewrite of it, and whether a reader calls it faithful."""

    original: str
    rewritten: str
    faithful: bool
    kind: str = "all"
    split: str = "all"


@dataclass(frozen=True)
class Confusion:
    """Counts of pairs: `broken` that are, of them `caught`; `faithful` that are, of them `accepted`."""

    broken: int
    caught: int
    faithful: int
    accepted: int

    def as_json(self) -> dict[str, Any]:
        """Precision and recall of finding broken rewrites and of accepting faithful ones; None where undefined."""
        false_alarms, missed = self.faithful - self.accepted, self.broken - self.caught
        return {
            "pairs": self.broken + self.faithful,
            "right": self.caught + self.accepted,
            "broken_precision": _ratio(self.caught, self.caught + false_alarms),
            "broken_recall": _ratio(self.caught, self.broken),
            "faithful_precision": _ratio(self.accepted, self.accepted + missed),
            "faithful_recall": _ratio(self.accepted, self.faithful),
        }


def load_pairs(path: Path) -> list[RewritePair]:
    """Read a JSON Lines file of pairs; raises `InputError` naming the file and line of a malformed one."""
    pairs = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if line.strip():
            try:
                pairs.append(RewritePair(**json.loads(line)))
            except (TypeError, ValueError, RecursionError) as error:
                raise InputError(f"{path}, line {number}: {error}; expected original, rewritten, faithful") from error
    return pairs


def confusion(pairs: Iterable[RewritePair], judge: Judge) -> Confusion:
    """Run the judge on every pair and count."""
    verdicts = [(pair.faithful, judge(pair.original, pair.rewritten)) for pair in pairs]
    return Confusion(
        broken=sum(not truth for truth, _ in verdicts),
        caught=sum(not truth and not said for truth, said in verdicts),
        faithful=sum(truth for truth, _ in verdicts),
        accepted=sum(truth and said for truth, said in verdicts),
    )


def evaluate(pairs: Sequence[RewritePair], judge: Judge | None = None) -> dict[str, Any]:
    """Figures for all pairs, each split and each kind, with the two floors. judge: by default `check`."""
    judge = judge or (lambda original, rewritten: check(original, rewritten).faithful)
    groups = {"all": list(pairs)}
    for attribute in ("split", "kind"):
        for name in sorted({getattr(pair, attribute) for pair in pairs} - {"all"}):
            groups[f"{attribute} {name}"] = [pair for pair in pairs if getattr(pair, attribute) == name]
    figures = {name: confusion(group, judge).as_json() for name, group in groups.items()}
    figures["floor: always faithful"] = confusion(pairs, lambda *_: True).as_json()
    figures["floor: always broken"] = confusion(pairs, lambda *_: False).as_json()
    return figures


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def main(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="JSON Lines files of pairs.")],
    errors: Annotated[bool, typer.Option(help="Also print every tuned pair that is judged wrongly.")] = False,
) -> None:
    """Print precision and recall of the faithfulness check, by split and kind."""
    pairs = [pair for path in files for pair in load_pairs(path)]
    for name, figures in evaluate(pairs).items():
        print(f"{name:28}", json.dumps(figures))
    for pair in pairs if errors else []:
        if pair.split != "held_out" and check(pair.original, pair.rewritten).faithful != pair.faithful:
            print(json.dumps({"judged": not pair.faithful, "original": pair.original, "rewritten": pair.rewritten}))


if __name__ == "__main__":
    typer.run(main)
