"""An evaluation as one page to look at: it holds its pictures and needs nothing from elsewhere."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..media.target import failures_named, written_whole
from .bars import Bar, shown
from .by_weights import NEEDS
from .charts import THUMB, curve, image_data
from .course import CURVES, curve_of
from .evaluation import Evaluation, Result
from .page_look import SHEET

SLICE = 200  # pixels down, of a slice
# Where each curve would be of a copy, and the span of values below which it is called flat.
SCALES = {
    "brightness": (0.0, 0.1),
    "saturation": (0.0, 0.1),
    "sharpness": (1.0, 0.2),
    "structure": (1.0, 0.2),
    "flicker": (0.0, 0.1),
    "style distance": (None, 0.2),
}
WORDS = (1, 2)  # columns of the first table that hold words
OVERVIEW = (
    *("structure", "warp excess", "motion", "frozen", "past", "flicker", "sharpness"),
    *("colour drift", "sharpness drift", "style drift", "own reference"),
)


def write_page(path: Path, evaluation: Evaluation) -> None:
    with written_whole(path) as unfinished, failures_named(path):
        unfinished.write_text(page(evaluation), encoding="utf-8")


def page(evaluation: Evaluation) -> str:
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(_title(evaluation))}</title><style>{SHEET}</style></head><body><main>",
        _opening(evaluation),
        _paper(evaluation),
        _skipped(evaluation),
        _overview(evaluation.results),
        "<h2>Clips</h2>" if evaluation.results else "",
        *(_card(number, result) for number, result in enumerate(evaluation.results)),
        _closing(evaluation),
        "</main></body></html>",
    ]
    return "\n".join(filter(None, parts))


def _title(evaluation: Evaluation) -> str:
    return f"Evaluation of {evaluation.about.get('of', 'clips')}"


def _opening(evaluation: Evaluation) -> str:
    results = evaluation.results
    missed = sum(bool(result.missed) for result in results)
    said = [f"{len(results)} {'clip' if len(results) == 1 else 'clips'} measured"]
    said.append(f"{missed} to look at" if missed else "none of them beyond a limit")
    if evaluation.skipped:
        said.append(f"{len(evaluation.skipped)} skipped")
    when = escape(str(evaluation.about.get("date", "")).replace("T", " ").removesuffix("+00:00"))
    return (
        f"<h1>{escape(_title(evaluation))}</h1>"
        f'<p class="soft">{", ".join(said)}. {when}{" UTC" if when else ""}</p>'
    )


def _paper(evaluation: Evaluation) -> str:
    table = evaluation.paper()
    if not table.rows:
        return ""
    head = [_cell(name, "th", _numbers(n)) for n, name in enumerate(table.head)]
    rows = [
        "".join(_cell(_digits(value), "td", _numbers(n)) for n, value in enumerate(row))
        for row in table.rows
    ]
    absent: dict[str, list[str]] = {}
    for key in NEEDS:
        bars = [result.bars[key] for result in evaluation.results]
        if all(bar.value is None for bar in bars):
            absent.setdefault(bars[0].reason, []).append(key)
    notes = [f"{', '.join(keys)}: {reason}" for reason, keys in absent.items()]
    told = f'<p class="soft small">Not measured. {escape("; ".join(notes))}.</p>' if notes else ""
    return f"<h2>As in the paper</h2>{_table(head, rows)}{told}"


def _skipped(evaluation: Evaluation) -> str:
    rows = [*evaluation.skipped, *((f"--{name}", why) for name, why in evaluation.refused.items())]
    if not rows:
        return ""
    cells = [_cell(name, "td") + _cell(why, "td", "reason") for name, why in rows]
    return f"<h2>Not measured</h2>{_table([_cell('', 'th'), _cell('why', 'th')], cells)}"


def _overview(results: Sequence[Result]) -> str:
    if not results:
        return ""
    named = [key for key in OVERVIEW if any(r.bars[key].value is not None for r in results)]
    head = [_cell("clip", "th"), *(_cell(key, "th", "number") for key in named)]
    rows = []
    for number, result in enumerate(results):
        link = f'<td><a href="#clip-{number}">{escape(result.name)}</a></td>'
        rows.append(link + "".join(_value(result.bars[key]) for key in named))
    return (
        f"<h2>At a glance</h2>{_table(head, rows)}"
        '<p class="soft small">Marked: beyond a limit that says where to look. Those with most '
        "marks come first.</p>"
    )


def _card(number: int, result: Result) -> str:
    return "".join(
        (
            f'<section class="card" id="clip-{number}">',
            _head(result),
            _strip(result),
            _slices(result),
            _curves(result),
            _figures(result.bars),
            _notes(result),
            "</section>",
        )
    )


def _head(result: Result) -> str:
    shape = f"{result.frames} frames, {result.size}, {result.rate:g} a second"
    asked = f"“{escape(result.prompt)}”" if result.prompt else ""
    if result.reference is not None:
        asked = ", ".join(filter(None, (asked, "by reference")))
    image = ""
    if result.reference is not None:
        image = f'<img alt="reference" src="{image_data(result.reference, width=THUMB // 2)}">'
    tags = "".join(f'<span class="tag">{escape(key)}</span>' for key in result.missed)
    tags = tags or '<span class="tag good">within all limits</span>'
    return (
        f'<div class="head">{image}<div class="words"><h3>{escape(result.name)}</h3>'
        f'<span class="soft small">{escape(result.method)} · {shape}'
        f"{f' · {asked}' if asked else ''}</span></div><div class='tags'>{tags}</div></div>"
    )


def _strip(result: Result) -> str:
    frames, seconds = result.pictures.frames, result.pictures.seconds
    rows = []
    for name, side in (("source", 0), ("output", 1)):
        rows.append(f"<span>{name}</span>")
        rows += [f'<img alt="{name}" src="{image_data(pair[side], THUMB)}">' for pair in frames]
    times = [f'<span class="time">{second:.1f} s</span>' for second in seconds]
    return (
        f'<div class="strip" style="--count: {len(frames)}">{"".join(rows)}<span></span>'
        f"{''.join(times)}</div>"
    )


def _slices(result: Result) -> str:
    said = "the middle row of every frame, time to the right"
    shown_slices = [
        f'<figure><img alt="{name}" src="{image_data(picture, height=SLICE)}">'
        f"<figcaption>{name}: {said}</figcaption></figure>"
        for name, picture in zip(("source", "output"), result.pictures.slices, strict=True)
    ]
    return f'<div class="slices">{"".join(shown_slices)}</div>'


def _curves(result: Result) -> str:
    drawn = []
    for name, said in CURVES.items():
        points = curve_of(result.curve, name)
        if len(points) > 1:
            caption = f"<figcaption><b>{name}</b> {said}</figcaption>"
            drawn.append(f"<figure>{caption}{curve(points, *SCALES[name])}</figure>")
    return f'<div class="curves">{"".join(drawn)}</div>' if drawn else ""


def _figures(bars: dict[str, Bar]) -> str:
    rows = []
    for key, bar in bars.items():
        if key in NEEDS and bar.value is None:
            continue  # said once, below the first table
        beside = bar.reason if bar.value is None else bar.limit
        rows.append(
            f"<div{' class=miss' if bar.passed is False else ''}><span class='what'>{escape(key)}"
            f"<small>{escape(bar.claim if bar.claim != key else '')}</small></span>"
            f"<span class='value'>{_digits(bar.value)}<small>{escape(beside)}</small></span></div>"
        )
    return f'<div class="figures">{"".join(rows)}</div>'


def _notes(result: Result) -> str:
    notes = [*result.notes, *(f"{role}: {Path(path).name}" for role, path in result.paths.items())]
    return f'<p class="notes">{escape("; ".join(notes))}</p>'


def _closing(evaluation: Evaluation) -> str:
    about = evaluation.about
    files = [f"{role}: {told}" for role, told in about.get("weights", {}).items()]
    said = [
        f"Style by {about.get('descriptor')}; motion by DIS flow of the source; frames at most "
        f"{about.get('side')} pixels long.",
        *files,
    ]
    return f"<footer>{'<br>'.join(escape(line) for line in said)}</footer>"


def _table(head: Sequence[str], rows: Sequence[str]) -> str:
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{"".join(head)}</tr>{body}</table></div>'


def _cell(value: str, kind: str, style: str = "") -> str:
    return f"<{kind}{f' class={style}' if style else ''}>{escape(value)}</{kind}>"


def _value(bar: Bar) -> str:
    style = "none" if bar.value is None else "miss" if bar.passed is False else ""
    return f'<td class="number {style}">{_digits(bar.value)}</td>'


def _numbers(column: int) -> str:
    return "number" if column > max(WORDS) - 1 else ""


def _digits(value: object) -> str:
    if isinstance(value, float):
        return shown(round(value, 4)) if abs(value) >= 1 else f"{value:.3f}".replace("-0.000", "0")
    return shown(value)
