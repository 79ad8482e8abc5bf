"""Caption metrics under the COCO protocol (Chen et al. 2015, arXiv 1504.00325), computed by `pycocoevalcap`.

PTB tokenisation and METEOR run Java; without it both are left out, and the result says so: scores of text that was not
PTB-tokenised are not comparable with published ones. CIDEr-D takes its document frequencies from the references under
evaluation, so that scores of subsets are not comparable either.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .standard_errors import bootstrap_error, mean_and_error

# What the PTB tokeniser's wrapper drops; with these the plain tokeniser drops the same marks.
PUNCTUATION = ("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";")
METRICS = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "ROUGE-L", "CIDEr-D", "SPICE")


@dataclass(frozen=True)
class CaptionScores:
    """scores: metric -> corpus score (CIDEr-D up to 10, the others up to 1). per_image: metric -> one score per image.

    left_out: metric -> why it was not computed. ptb_tokenized: whether the text went through the PTB tokeniser.
    bleu_counts: what BLEU sums up, (N, 10): of each image the lengths of caption and nearest reference, n-grams of
    the caption, n-grams of them that a reference has too, n from 1 to 4.
    """

    scores: dict[str, float]
    per_image: dict[str, list[float]]
    left_out: dict[str, str]
    ptb_tokenized: bool
    bleu_counts: NDArray[np.float64]

    def stderr(self, name: str) -> float:
        """Standard error of a corpus score: of the mean over images, or for BLEU, which is no mean, by bootstrap."""
        if name.startswith("BLEU"):
            return bootstrap_error(partial(bleu, order=int(name[-1])), self.bleu_counts)
        return mean_and_error(self.per_image[name])[1]

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {100 * score:.1f}" for name, score in self.scores.items())
        tokens = "PTB-tokenised" if self.ptb_tokenized else "not PTB-tokenised (no Java): not comparable with others"
        missing = "; ".join(f"{name} left out: {why}" for name, why in self.left_out.items())
        return f"{shown} (x100; {tokens}{'; ' if missing else ''}{missing})"


def caption_scores(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, java: bool | None = None, meteor: bool = True
) -> CaptionScores:
    """Score one predicted caption per image against that image's reference captions.

    java: whether to use it; by default where it runs. meteor: False leaves it out; it takes seconds to start.
    Raises `InputError` for lengths that differ, images without
    references, and if `pycocoevalcap` is not installed.
    """
    _check(predictions, references)
    use_java = java_runs() if java is None else java
    tokenize = _ptb_tokenize if use_java else plain_tokenize
    flat = iter(tokenize([*predictions, *(text for texts in references for text in texts)]))
    written = {i: [next(flat)] for i in range(len(predictions))}
    true = {i: [next(flat) for _ in texts] for i, texts in enumerate(references)}
    scores, per_image, bleu_counts = _pure_python_scores(true, written)
    left_out = {"SPICE": "it needs Java 8 or 11 and a download"}
    if use_java and meteor:
        scores["METEOR"], per_image["METEOR"] = _meteor(true, written)
    else:
        left_out["METEOR"] = "not asked for" if java is False or not meteor else "Java is not installed"
    ordered = {name: scores[name] for name in METRICS if name in scores}
    return CaptionScores(ordered, per_image, left_out, ptb_tokenized=use_java, bleu_counts=bleu_counts)


def best_constant(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> str:
    """The candidate of the highest CIDEr-D if it were written about every image: the floor of captions that do not
    look. Without Java. Raises `InputError` as `caption_scores` does.
    """
    from pycocoevalcap.cider.cider import Cider

    _check(list(candidates[:1]) * len(references), references)
    flat = iter(plain_tokenize([text for texts in references for text in texts]))
    true = {i: [next(flat) for _ in texts] for i, texts in enumerate(references)}
    written = plain_tokenize(candidates)
    scores = [float(Cider().compute_score(true, {key: [text] for key in true})[0]) for text in written]
    return candidates[scores.index(max(scores))]


@lru_cache(maxsize=1)
def java_runs() -> bool:
    """Whether there is a `java` that starts."""
    command = shutil.which("java")
    return (
        command is not None and subprocess.run([command, "-version"], capture_output=True, check=False).returncode == 0
    )


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if find_spec("pycocoevalcap") is None:
        raise InputError(
            "caption metrics need the package pycocoevalcap; install it with: pip install 'textlens[evals]'"
        )
    if not predictions or len(predictions) != len(references):
        raise InputError(
            f"got {len(predictions)} predictions and {len(references)} sets of references; expected as many"
        )
    for i, texts in enumerate(references):
        if isinstance(texts, str) or not texts or not all(_one_line(text) for text in texts):
            raise InputError(f"image {i} has references {texts!r}; expected a list of at least one text, none empty")


def _pure_python_scores(
    true: dict[int, list[str]], written: dict[int, list[str]]
) -> tuple[dict[str, float], dict[str, list[float]], NDArray[np.float64]]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    scorer: Any = BleuScorer(n=4)
    for i, texts in true.items():
        scorer += (written[i][0], texts)
    bleu, bleus = scorer.compute_score(option="closest", verbose=0)
    rouge, rouges = Rouge().compute_score(true, written)
    cider, ciders = Cider().compute_score(true, written)
    names = [f"BLEU-{n}" for n in range(1, 5)]
    scores = dict(zip(names, map(float, bleu), strict=True)) | {"ROUGE-L": float(rouge), "CIDEr-D": float(cider)}
    per_image = {name: [float(s) for s in row] for name, row in zip(names, bleus, strict=True)}
    counts = np.array([_bleu_counts(one) for one in scorer.ctest], dtype=float)
    return scores, per_image | {"ROUGE-L": rouges.tolist(), "CIDEr-D": ciders.tolist()}, counts


def _bleu_counts(found: Mapping[str, Any]) -> list[float]:
    length = found["testlen"]
    _, nearest = min((abs(other - length), other) for other in found["reflen"])
    return [length, nearest, *found["guess"], *found["correct"]]


def bleu(sums: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """(..., 10) sums of `bleu_counts` -> (...,) corpus BLEU of n-grams up to `order` (Papineni et al. 2002)."""
    length, nearest = sums[..., 0], sums[..., 1]
    found, shared = sums[..., 2 : 2 + order], sums[..., 6 : 6 + order]
    precision = np.prod((shared + 1e-15) / (found + 1e-9), axis=-1) ** (1 / order)  # pycocoevalcap's small numbers
    return precision * np.exp(np.minimum(0.0, 1 - nearest / np.maximum(length, 1e-9)))


def _meteor(true: dict[int, list[str]], written: dict[int, list[str]]) -> tuple[float, list[float]]:
    from pycocoevalcap.meteor.meteor import Meteor

    scorer: Any = Meteor()
    try:
        score, scores = scorer.compute_score(true, written)
    finally:
        for pipe in (scorer.meteor_p.stdout, scorer.meteor_p.stderr):
            with contextlib.suppress(OSError):
                pipe.close()
    return float(score), [float(s) for s in scores]


def _ptb_tokenize(texts: Sequence[str]) -> list[str]:
    """Stanford's PTB tokeniser, lower case, without punctuation: what `pycocoevalcap`'s wrapper does, through a pipe.

    The wrapper itself writes into its package's folder, which may be read-only, and pairs lines with images unchecked.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    quick_start = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")  # the work takes less time than Java's own start
    options = ("-preserveLines", "-lowerCase", "-encoding", "UTF-8")
    command = ["java", *quick_start, "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", *options]
    sent = io.StringIO()
    for text in texts:
        sent.write(f"{_one_line(text)}\n")
    done = subprocess.run(command, input=sent.getvalue().encode(), capture_output=True, check=False)
    lines = done.stdout.decode().split("\n")[:-1]
    if done.returncode or len(lines) != len(texts):
        raise InputError(
            f"the PTB tokeniser gave {len(lines)} lines for {len(texts)} texts (exit code {done.returncode}): "
            f"{done.stderr.decode()[-300:]}; use java=False for scores without it"
        )
    return [" ".join(word for word in line.split() if word not in PUNCTUATION) for line in lines]


def plain_tokenize(texts: Sequence[str]) -> list[str]:
    """Lower case, punctuation dropped: close to the PTB tokeniser on plain captions ("man's" stays one word)."""
    marks = str.maketrans(dict.fromkeys('.,;:!?"`()[]{}', " "))
    lines = (text.lower().translate(marks).split() for text in texts)
    return [" ".join(word for word in line if word not in PUNCTUATION) for line in lines]


def _one_line(text: str) -> str:
    return " ".join(text.split())
