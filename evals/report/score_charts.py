"""Charts of scores as inline SVG. Colours are classes of page.css, so that they follow the reader's theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, tostring

from ..harness.results import ResultRow
from .gallery import Mean

WIDTH = 760
_LINE = 16  # pixels between two labels
_LABEL = 26  # characters of a context
_TYPE = 60  # and of a question type


@dataclass(frozen=True)
class Style:
    """How a context is drawn, the same all over the page."""

    css: str  # classes: s0 … s7, floor (f1 and f2: bars in other greys), ceiling
    mark: int = 0  # shape of the marker
    dash: str = ""


def styles(rows: Sequence[ResultRow]) -> dict[str, Style]:
    """Context -> style: a colour and marker each for encoders; grey for floors, ink for ceilings, both dashed."""
    roles = {row.context: row.role for row in rows}
    found, coloured, floors = {}, 0, 0
    for context, role in roles.items():
        if role == "floor":
            found[context] = Style(
                ("floor", "floor f1", "floor f2")[floors % 3], floors % 4, ("5 4", "2 3", "8 3 2 3", "1 4")[floors % 4]
            )
            floors += 1
        elif role == "ceiling":
            found[context] = Style("ceiling", 3, "7 4")
        else:
            found[context] = Style(f"s{coloured % 8}", (coloured + coloured // 8) % 4)
            coloured += 1
    return found


def curve(rows: Sequence[ResultRow], drawn: Mapping[str, Style], title: str) -> str:
    """Score over shots, one line a context with 95 % intervals; rows without shots are lines across the plot."""
    shots = sorted({row.num_fewshot for row in rows if row.num_fewshot is not None})
    contexts = list(dict.fromkeys(row.context for row in rows))
    left, top, bottom, height = 44, 14, 46, 360
    right = 34 + int(6.7 * max(min(_LABEL, len(context)) for context in contexts))
    svg = _svg(height, title)
    scale = _Scale.of(rows, height - bottom, top)
    plot = WIDTH - left - right
    for tick in scale.ticks:
        y = scale(tick)
        _line(svg, left, y, WIDTH - right, y, "grid")
        _text(svg, left - 8, y + 4, _tick(tick), "tick", "end")
    step = plot / len(shots)
    places = {shot: left + step * (place + 0.5) for place, shot in enumerate(shots)}
    for shot, x in places.items():
        _text(svg, x, height - bottom + 20, str(shot), "tick", "middle")
    _text(svg, left + plot / 2, height - 6, "shots (num_fewshot, not to scale)", "axis", "middle")

    dodge = min(9.0, step * 0.6 / len(contexts))
    ends: list[tuple[str, float, float]] = []  # context, x and y of its last point
    for number, context in enumerate(contexts):
        shift = dodge * (number - (len(contexts) - 1) / 2)
        style = drawn[context]
        group = SubElement(svg, "g", {"class": style.css})
        mine = [row for row in rows if row.context == context]
        for row in (row for row in mine if row.num_fewshot is None):
            y = scale(row.score)
            _line(group, left, y, WIDTH - right, y, "series", style.dash)
            _whisker(group, row, scale, WIDTH - right - 6)
            ends.append((context, WIDTH - right - 6, y))
        points = [
            (places[row.num_fewshot] + shift, row)
            for row in sorted(mine, key=lambda row: row.num_fewshot or 0)
            if row.num_fewshot is not None
        ]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{scale(row.score):.1f}" for x, row in points)
            SubElement(group, "polyline", _dashed({"points": path, "class": "series"}, style.dash))
        for x, row in points:
            _whisker(group, row, scale, x)
            _mark(group, x, scale(row.score), style.mark, _told(row))
        if points:
            ends.append((context, points[-1][0], scale(points[-1][1].score)))
    heights = spread([y for _, _, y in ends], _LINE, top, height - bottom)
    for (context, x, y), label in zip(ends, heights, strict=True):
        group = SubElement(svg, "g", {"class": drawn[context].css})
        edge = WIDTH - right
        SubElement(
            group, "polyline", {"points": f"{x + 6:.1f},{y:.1f} {edge:.1f},{y:.1f} {edge + 12},{label:.1f}"}
        ).set("class", "leader")
        _text(group, edge + 16, label + 4, _short(context), "label", full=context)
    return tostring(svg, encoding="unicode")


def intervals(rows: Sequence[ResultRow], drawn: Mapping[str, Style], title: str) -> str:
    """One line a context: its score as a point with its 95 % interval. For runs with one number of shots."""
    left = 24 + int(6.7 * max(min(_LABEL, len(row.context)) for row in rows))
    row_height, top, bottom, right = 28, 8, 28, 60
    height = top + row_height * len(rows) + bottom
    svg = _svg(height, title)
    scale = _Scale.of(rows, left, WIDTH - right)
    for tick in scale.ticks:
        _line(svg, scale(tick), top, scale(tick), height - bottom, "grid")
        _text(svg, scale(tick), height - 8, _tick(tick), "tick", "middle")
    for number, row in enumerate(rows):
        style = drawn[row.context]
        y = top + row_height * (number + 0.5)
        group = SubElement(svg, "g", {"class": style.css})
        _text(group, left - 12, y + 4, _short(row.context), "label", "end", full=row.context)
        _whisker(group, row, scale, y, across=True)
        _mark(group, scale(row.score), y, style.mark, _told(row))
        _text(svg, WIDTH - right + 14, y + 4, f"{row.score:.1f}", "value")
    return tostring(svg, encoding="unicode")


def type_bars(types: Mapping[str, Mapping[str, Mean]], drawn: Mapping[str, Style], title: str) -> str:
    """Bars of mean sample scores; types: question type -> context -> mean."""
    bar, head, gap, top, bottom, left, right = 13, 20, 14, 4, 28, 4, 48
    height = top + bottom + sum(head + bar * len(contexts) + gap for contexts in types.values())
    svg = _svg(height, title)
    whiskers = [m.score + 1.96 * (m.stderr or 0) for contexts in types.values() for m in contexts.values()]
    scores = [m.score for contexts in types.values() for m in contexts.values()]
    scale = _Scale(min(0.0, *scores), max(*whiskers, 1.0), left, WIDTH - right)
    for tick in scale.ticks:
        _line(svg, scale(tick), top, scale(tick), height - bottom, "grid")
        _text(svg, scale(tick), height - 8, _tick(tick), "tick", "middle")
    y = float(top)
    for name, contexts in types.items():
        sizes = sorted({mean.n for mean in contexts.values()})
        count = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        label = _text(svg, left + 4, y + head - 6, _short(name, _TYPE), "type", full=name)
        SubElement(label, "tspan", {"class": "tick", "dx": "8"}).text = f"n = {count}"
        y += head
        for context, mean in contexts.items():
            style = drawn.get(context, Style("floor"))
            group = SubElement(svg, "g", {"class": style.css})
            start, end = sorted((scale(0), scale(mean.score)))
            box = {"x": f"{start:.1f}", "y": f"{y + 1:.1f}", "width": f"{end - start:.1f}", "height": str(bar - 3)}
            rect = SubElement(group, "rect", {**box, "rx": "1.5", "class": "bar"})
            SubElement(rect, "title").text = f"{name}, {context}: {mean.score:.1f} (n={mean.n})"
            reach = scale(mean.score)
            if mean.stderr:
                low, reach = (scale(mean.score + sign * 1.96 * mean.stderr) for sign in (-1, 1))
                _line(svg, max(low, left), y + bar / 2 - 0.5, reach, y + bar / 2 - 0.5, "over")
            _text(svg, max(reach, end) + 5, y + bar - 3, f"{mean.score:.1f}", "small")
            y += bar
        y += gap
    return tostring(svg, encoding="unicode")


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move places apart until neighbours are `gap` from one another, within [low, high] as far as they fit."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    made = list(places)
    for before, i in zip([None, *order], order, strict=False):
        made[i] = max(made[i], low if before is None else made[before] + gap)
    for after, i in zip([None, *reversed(order)], reversed(order), strict=False):
        made[i] = min(made[i], high if after is None else made[after] - gap)
    return made


class _Scale:
    """Scores -> pixels, from 0 (or the lowest score below) to a round number above the highest interval."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        raw = (high - low) / 6 or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw * 0.999)
        first, last = math.floor(low / step), math.ceil(high / step)
        self.ticks = [step * i for i in range(first, last + 1)]
        self.low, self.high, self.start, self.end = self.ticks[0], self.ticks[-1], start, end

    @classmethod
    def of(cls, rows: Sequence[ResultRow], start: float, end: float) -> _Scale:
        reach = [end for row in rows for end in row.interval or (row.score,)]
        return cls(min(0.0, *(row.score for row in rows)), max(*reach, 1.0), start, end)

    def __call__(self, score: float) -> float:
        share = (score - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(max(share, 0.0), 1.0)


def _svg(height: float, title: str) -> Element:
    return Element("svg", {"viewBox": f"0 0 {WIDTH} {height:.0f}", "role": "img", "aria-label": title})


def _line(parent: Element, x1: float, y1: float, x2: float, y2: float, css: str, dash: str = "") -> None:
    ends = {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}"}
    SubElement(parent, "line", _dashed({**ends, "class": css}, dash))


def _dashed(attributes: dict[str, str], dash: str) -> dict[str, str]:
    return {**attributes, "stroke-dasharray": dash} if dash else attributes


def _text(
    parent: Element, x: float, y: float, text: str, css: str, anchor: str = "start", *, full: str | None = None
) -> Element:
    made = SubElement(parent, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor, "class": css})
    made.text = text
    if full is not None and full != text:
        SubElement(made, "title").text = full
    return made


def _whisker(parent: Element, row: ResultRow, scale: _Scale, at: float, *, across: bool = False) -> None:
    if row.interval is None:
        return
    low, high = (scale(end) for end in row.interval)
    for x1, y1, x2, y2 in ((low, at, high, at), (low, at - 4, low, at + 4), (high, at - 4, high, at + 4)):
        _line(parent, *((x1, y1, x2, y2) if across else (y1, x1, y2, x2)), "whisker")


def _mark(parent: Element, x: float, y: float, shape: int, told: str) -> None:
    """A circle, square, triangle or diamond."""
    corners = (
        (),
        ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        ((0, -5), (5, 4), (-5, 4)),
        ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
    )[shape]
    if corners:
        made = SubElement(parent, "polygon", {"points": " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)})
    else:
        made = SubElement(parent, "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "4.5"})
    made.set("class", "mark")
    SubElement(made, "title").text = told


def _told(row: ResultRow) -> str:
    shots = "" if row.num_fewshot is None else f", {row.num_fewshot} shots"
    error = "stderr not known" if row.stderr is None else f"± {row.stderr:.1f}"
    return f"{row.context}{shots}: {row.score:.1f} {error}"


def _short(text: str, length: int = _LABEL) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")
