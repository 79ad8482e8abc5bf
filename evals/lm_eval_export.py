"""Tasks for EleutherAI's lm-evaluation-harness (`lm_eval`), so that any model it runs can be asked about images' words.

    python -m textlens.evals.lm_eval_export daquar --data-dir data --encoder coca --num-fewshot 4 --out runs/lm_eval
    lm_eval run --include_path runs/lm_eval --tasks textlens_daquar --model hf \\
        --model_args pretrained=MODEL,dtype=float32

Each context is one task there, NAME.yaml and NAME.jsonl; `textlens_TASK` runs them all. The prompts are those of
`textlens eval`, shots included, so `num_fewshot` is 0 there. Scoring is ours, which `lm_eval` imports: install textlens
beside it (`pip install 'textlens[lm-eval]'`). Scores and answers are those of `textlens eval`, but scores are from 0 to
1, standard errors are not clustered by image, a prompt that is too long for the model loses its beginning instead of
whole shots, and `dtype` is the checkpoint's unless named (`textlens eval` computes in float32 on a CPU).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ..errors import InputError, TextlensError
from ..prompting.classification import ClassificationTemplate
from ..prompting.templates import Template
from ..prompting.vqa import VQATemplate
from .encoder_variants import load_variants
from .harness.context_rows import ContextRow
from .harness.evaluate import open_tasks
from .harness.runner import EvalSettings, open_contexts
from .harness.task_base import Prompted, Task
from .kinds.question_tasks import answer_score
from .task_data.documents import Doc

KINDS = ("vqa", "multiple_choice", "classification")  # scored answer by answer
_HEAD = "# Written by textlens.evals.lm_eval_export. The shots are in the prompts: num_fewshot stays 0.\n"
_MODULE = "\n".join(
    [
        '"""Written by textlens.evals.lm_eval_export: prompts of the files beside this one, scores of textlens."""',
        "",
        "import json",
        "from pathlib import Path",
        "",
        "from datasets import Dataset",
        "from textlens.evals.lm_eval_export import process_results",
        "",
        '__all__ = ["load", "process_results"]',
        "",
        "",
        "def load(file, **_):",
        '    lines = (Path(__file__).parent / file).read_text(encoding="utf-8").split("\\n")',
        '    return {"test": Dataset.from_list([json.loads(line) for line in lines if line])}',
        "",
    ]
)


def export(task: Task, contexts: Sequence[ContextRow], num_fewshot: int, out: Path) -> list[str]:
    """Write one task of `lm_eval` for each context into the folder `out`. Returns their names.

    Raises `InputError` for a kind that is not scored answer by answer, and for questions that have no prompt.
    """
    if task.config.kind not in KINDS:
        raise InputError(f"{task.config.task} is of kind {task.config.kind}; expected {', '.join(KINDS)}")
    names = [_name(task, context, num_fewshot) for context in contexts]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(f"several contexts have the name {min(repeated)} in lm_eval; export them into several folders")
    out.mkdir(parents=True, exist_ok=True)
    (out / "textlens_functions.py").write_text(_MODULE, encoding="utf-8")
    for name, context in zip(names, contexts, strict=True):
        prompted = _prompted(task, context, num_fewshot)
        rows = [_row(task, doc, one) for doc, one in zip(task.data.asked, prompted, strict=True)]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (out / f"{name}.yaml").write_text(_HEAD + _config(task, name, context, prompted), encoding="utf-8")
    return names


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """What `lm_eval` calls for each row. results: the completion, or (log probability, …) of each choice."""
    chosen = doc["scored_choices"]
    if chosen:
        best = max(range(len(chosen)), key=lambda i: results[i][0])  # the first of equals
        return {doc["metric"]: float(doc["choices"][best] == doc["answer"]), "unparsed": 0.0}
    answer = _template(doc["kind"], doc["choices"]).parse(results[0]).answer
    if doc["kind"] == "classification":
        score = float(answer == doc["answer"])
    else:
        scores = {one["answer"]: one["score"] for one in doc["scores"]}
        known = Doc(doc["id"], doc["image"], references=tuple(doc["references"]), scores=scores)
        score = 0.0 if answer is None else answer_score(doc["metric"], known, answer)
    return {doc["metric"]: score, "unparsed": float(answer is None)}


def _template(kind: str, choices: Sequence[str]) -> Template:
    """One that parses as the prompt's own does."""
    return ClassificationTemplate(labels=tuple(choices)) if kind == "classification" else VQATemplate.paper()


def _prompted(task: Task, context: ContextRow, num_fewshot: int) -> list[Prompted]:
    found: list[Prompted] = []
    failed: list[str] = []
    for doc in task.data.asked:
        try:
            found.append(task.prompted(doc, context.source, num_fewshot))
        except InputError as error:
            failed.append(f"{doc.id}: {error}")
    if failed:
        raise InputError(f"{task.config.task}: {len(failed)} questions have no prompt, such as {failed[0]}")
    return found


def _row(task: Task, doc: Doc, prompted: Prompted) -> dict[str, Any]:
    end = "".join(prompted.template.choice_stop[:1])  # as `InProcessModel` scores choices
    return {
        "id": doc.id,
        "image": doc.image,
        "kind": task.config.kind,
        "metric": next(iter(task.metrics)),
        "prompt": prompted.template.render(prompted.query, prompted.shots),
        "answer": doc.answer,
        "references": list(doc.references),
        "scores": [{"answer": answer, "score": float(score)} for answer, score in doc.scores.items()],
        "choices": list(doc.choices),
        "scored_choices": [f" {choice}{end}" for choice in prompted.choices or ()],
        "target": doc.choices.index(doc.answer) if prompted.choices else 0,
    }


def _config(task: Task, name: str, context: ContextRow, prompted: Sequence[Prompted]) -> str:
    metric = next(iter(task.metrics))
    config: dict[str, Any] = {
        "task": name,
        "tag": f"textlens_{_word(task.config.task)}",
        "task_alias": f"{task.config.task}: {context.name}",
        "test_split": "test",
        "dataset_kwargs": {"file": f"{name}.jsonl"},
        "doc_to_text": "prompt",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True},
            {"metric": "unparsed", "aggregation": "mean", "higher_is_better": False},
        ],
    }
    if prompted[0].choices:
        config |= {"output_type": "multiple_choice", "doc_to_choice": "scored_choices", "doc_to_target": "target"}
    else:
        # Those that end every answer; each prompt's own cut again as it is parsed.
        stop = [mark for mark in prompted[0].template.stop if all(mark in one.template.stop for one in prompted)]
        limits = {"until": stop, "max_gen_toks": task.config.max_tokens, "do_sample": False}
        config |= {"output_type": "generate_until", "doc_to_target": "answer", "generation_kwargs": limits}
    functions = [
        f"{key}: !function textlens_functions.{function}"
        for key, function in (("custom_dataset", "load"), ("process_results", "process_results"))
    ]
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True) + "\n".join(functions) + "\n"


def _name(task: Task, context: ContextRow, num_fewshot: int) -> str:
    return f"textlens_{_word(task.config.task)}_{_word(context.name)}_{num_fewshot}shot"


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_").lower()


def main(
    task: Annotated[str, typer.Argument(help="Name of a task, such as daquar, or a YAML task file.")],
    out: Annotated[Path, typer.Option(help="Folder for the tasks.")],
    encoder: Annotated[list[str] | None, typer.Option("--encoder", "-e", help="Spec, repeatable.")] = None,
    context: Annotated[list[str] | None, typer.Option("--context", "-c", help="FILE:COLUMN, repeatable.")] = None,
    num_fewshot: Annotated[int, typer.Option(min=0, help="Shots in each prompt.")] = 4,
    nearest_shots: Annotated[str | None, typer.Option(metavar="BY", help="As of textlens eval.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Items, drawn by --seed; by default all.")] = None,
    seed: Annotated[int, typer.Option(help="Of shots and items.")] = 0,
    data_dir: Annotated[Path, typer.Option(help="Folder that the paths of built-in tasks start from.")] = Path("."),
    floors: Annotated[bool, typer.Option(help="Tasks without context, with another image's, and with truth.")] = True,
) -> None:
    """Write the contexts of a task as tasks of lm_eval."""
    try:
        settings = EvalSettings((num_fewshot,), seed, floors, cache=out / "cache")
        (opened,), files = open_tasks(
            [task], context or [], data_dir=data_dir, limit=limit, seed=seed, nearest_shots=nearest_shots
        )
        encoders = load_variants(encoder or [])
        with open_contexts(opened, encoders, files, settings, num_fewshot) as rows:
            names = export(opened, rows, num_fewshot, out)
    except TextlensError as error:
        raise SystemExit(f"error: {error}") from error
    print("\n".join(names))


if __name__ == "__main__":
    typer.run(main)
