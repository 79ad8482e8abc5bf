"""DIR/report.html from DIR/results.json and DIR/samples/: tables, charts and a gallery in one file, without network.

The page is page.html (Jinja2, everything escaped) with page.css and page.js. Samples stand in it as JSON that page.js
shows as text, never as HTML; the content security policy lets no other script run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...errors import InputError, check_range
from ..harness.results import ResultRow, Results
from ..harness.saved_results import read_results
from .gallery import Gallery, Mean, TaskSamples, make_gallery, scan
from .inline_page import page_environment, source_hash
from .score_charts import Style, curve, intervals, styles, type_bars

MAX_SAMPLES = 2000
_MAX_TYPES = 20  # question types in one chart
_HERE = Path(__file__).parent
_ORDER = {"floor": 0, "encoder": 1, "file": 2, "all": 3, "model": 4, "ceiling": 5}


@dataclass(frozen=True)
class TableRow:
    context: str
    role: str
    encoder: str | None
    cells: list[ResultRow | None]  # one for each column, or one alone for all of them
    spans: bool


@dataclass(frozen=True)
class Score:
    """One metric of a task: table and chart."""

    name: str
    label: str
    columns: list[int]  # numbers of shots
    rows: list[TableRow]
    chart: Markup
    caption: str


@dataclass(frozen=True)
class Summary:
    """The best image context of a task and metric, between blank context and ground-truth text."""

    task: str
    metric: str
    best: ResultRow
    blank: ResultRow | None
    truth: ResultRow | None
    among: int  # rows that the best was chosen of


@dataclass(frozen=True)
class TypeChart:
    shots: int | None
    contexts: set[str]
    chart: Markup


def write_report(folder: Path, max_samples: int = MAX_SAMPLES) -> Path:
    """Write folder/report.html and return its path; `max_samples` are embedded at most.

    Raises `InputError` for results that are missing, malformed or of another format.
    """
    check_range("max_samples", max_samples, 0)
    results = read_results(folder)
    samples = scan(folder, results)
    page = render(results, samples, make_gallery(folder, samples, max_samples), max_samples)
    path = folder / "report.html"
    unfinished = path.with_suffix(".html.part")
    try:
        unfinished.write_text(page, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); expected a folder to write to") from None
    return path


def render(results: Results, samples: Sequence[TaskSamples], gallery: Gallery, max_samples: int) -> str:
    """The page as HTML."""
    environment = page_environment()
    environment.filters |= {"figure": figure, "signed": signed, "when": when, "thousands": thousands}
    css, script = (_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    rows = sorted(results.results, key=lambda row: _ORDER[row.role])  # stable: else as in the file
    drawn = styles(rows)
    tasks = {samples.task: samples for samples in samples}
    return environment.from_string(_HERE.joinpath("page.html").read_text(encoding="utf-8")).render(
        results=results,
        css=Markup(css),
        script=Markup(script),
        css_hash=source_hash(css),
        script_hash=source_hash(script),
        drawn=drawn,
        summaries=[
            summary
            for task in results.task_names
            for metric in results.metrics(task)
            if (summary := _summary(results, rows, task, metric))
        ],
        scores={task: _scores(results, rows, task, drawn) for task in results.task_names},
        types={name: _type_charts(samples, drawn) for name, samples in tasks.items()},
        max_types=_MAX_TYPES,
        samples=tasks,
        mismatches=[line for name in tasks for line in _mismatches(results, tasks[name])],
        shots=sorted({row.num_fewshot for row in rows if row.num_fewshot is not None}),
        gallery=gallery,
        max_samples=max_samples,
        gallery_json=embedded_json(_gallery_data(results, gallery, rows, drawn)),
        settings=json.dumps(results.settings, indent=2, ensure_ascii=False),
    )


def embedded_json(data: Any) -> Markup:
    """JSON that can stand inside a script element: no character of it can end the element or begin a comment."""
    text = json.dumps(data, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def figure(value: float) -> str:
    """12.3, with a true minus sign."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def signed(value: float) -> str:
    return figure(value) if value < 0 and figure(value) != "0.0" else f"+{figure(value)}"


def thousands(value: float) -> str:
    return f"{value:,.0f}"


def when(date: str) -> str:
    """An ISO date for reading; any other text as it is."""
    try:
        parsed = datetime.fromisoformat(date)
    except ValueError:
        return date
    return f"{parsed:%Y-%m-%d %H:%M}{' UTC' if parsed.utcoffset() is not None and not parsed.utcoffset() else ''}"


def _of(rows: Sequence[ResultRow], task: str, metric: str) -> list[ResultRow]:
    return [row for row in rows if (row.task, row.metric) == (task, metric)]


def _summary(results: Results, rows: Sequence[ResultRow], task: str, metric: str) -> Summary | None:
    mine = _of(rows, task, metric)
    images = [row for row in mine if row.role not in ("floor", "ceiling")]
    if not images:
        return None
    best = max(images, key=lambda row: row.score)
    beside = {row.context: row for row in mine if row.num_fewshot == best.num_fewshot}
    return Summary(task, results.label(task, metric), best, beside.get("none"), beside.get("truth"), len(images))


def _scores(results: Results, rows: Sequence[ResultRow], task: str, drawn: dict[str, Style]) -> list[Score]:
    """Table and chart of each metric of a task."""
    made = []
    for metric in results.metrics(task):
        mine = _of(rows, task, metric)
        columns = sorted({row.num_fewshot for row in mine if row.num_fewshot is not None})
        label = results.label(task, metric)
        curved = len(columns) > 1
        chart = (curve if curved else intervals)(mine, drawn, f"{task}: {label}, by context")
        error = "Bars: 95 % intervals (score ± 1.96 stderr); none where stderr is not known."
        caption = f"{label} over the number of shots. {error}" if curved else f"{label}. {error}"
        made.append(Score(metric, label, columns, _table(mine, columns), Markup(chart), caption))
    return made


def _table(rows: Sequence[ResultRow], columns: Sequence[int]) -> list[TableRow]:
    """A line for each context, and a line across all columns for what does not depend on shots."""
    table = []
    for context in dict.fromkeys(row.context for row in rows):
        mine = [row for row in rows if row.context == context]
        cells = {row.num_fewshot: row for row in mine}
        first = mine[0]
        if None in cells:
            table.append(TableRow(context, first.role, first.encoder, [cells[None]], spans=True))
        if set(cells) - {None}:
            line = [cells.get(column) for column in columns]
            table.append(TableRow(context, first.role, first.encoder, line, spans=False))
    return table


def _type_charts(samples: TaskSamples, drawn: dict[str, Style]) -> list[TypeChart]:
    """A chart for each number of shots; samples without shots only where there are no others."""
    shots: list[int | None] = [*sorted(number for number in samples.types if number is not None)] or [*samples.types]
    order = {context: place for place, context in enumerate(drawn)}
    made = []
    for number in shots:
        types = samples.types[number]
        sizes = {name: max(mean.n for mean in contexts.values()) for name, contexts in types.items()}
        shown: dict[str, dict[str, Mean]] = {
            name: dict(sorted(types[name].items(), key=lambda item: order.get(item[0], len(order))))
            for name in sorted(types, key=lambda name: (-sizes[name], name))[:_MAX_TYPES]
        }
        contexts = {context for means in types.values() for context in means}
        title = f"{samples.task}: mean sample score by question type, {number} shots"
        made.append(TypeChart(number, contexts, Markup(type_bars(shown, drawn, title))))
    return made


def _mismatches(results: Results, samples: TaskSamples) -> list[str]:
    """Where a samples file holds more or fewer samples than results.json counts."""
    counted = {
        (row.context, row.num_fewshot): row.n
        for row in results.results
        if row.task == samples.task and row.metric == samples.metric
    }
    return [
        f"{samples.task}.jsonl: {samples.groups[key]} samples of {key[0]}"
        f"{'' if key[1] is None else f', {key[1]} shots'}; results.json counts {n}"
        for key, n in counted.items()
        if samples.groups[key] != n
    ]


def _gallery_data(
    results: Results, gallery: Gallery, rows: Sequence[ResultRow], drawn: dict[str, Style]
) -> dict[str, Any]:
    roles = {row.context: row.role for row in rows}
    return {
        "documents": gallery.documents,
        "images": gallery.images,
        "contexts": {name: {"style": style.css, "role": roles[name]} for name, style in drawn.items()},
        "metrics": {task: results.metrics(task)[0] for task in results.task_names},
    }
