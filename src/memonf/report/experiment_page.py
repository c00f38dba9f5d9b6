"""What the page of an experiment shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..experiment import Contender, Outcome, Scored
from ..merging import LayerSimilarity
from .addresses import COLUMNS, file_address, matrix_address, picture_address, sheet_address
from .curves import curve_content, curve_styles
from .page import Film, Layer, Map, Page, Shown, Standpoint, widths
from .plots import CurvePlot, plot_curves
from .tables import SummaryRow, headings, shown_figures, summary_rows

__all__ = ["KNOWLEDGE_TEXT", "LAYERS_NOTE", "experiment_page", "layers_of"]

#: Of films that are shown at first, beside the parents and the best merge.
FIRST_FILMS = (
    Contender("joint", "joint"),
    *map(
        Contender.merge,
        (
            "average", "weight_matching", "weight_matching_repair", "activation_matching",
            "activation_matching_repair",
        ),
    ),
)  # fmt: skip
KNOWLEDGE_TEXT = (
    "How many cameras saw each place, in slices through the matter and on its surface; magenta is "
    "what no camera saw, where the field only guesses."
)
LAYERS_NOTE = (
    "Correlation of each hidden unit of the first parent (rows) with each of the second (columns) "
    "at the same points of space: blue is 1, white 0, red \N{MINUS SIGN}1. Units that share a "
    "slot are averaged, so a merge needs a dark diagonal. Aligned by params and activations "
    "together."
)


def experiment_page(outcome: Outcome) -> Page:
    """Gather all that came out of an experiment."""
    run, settings = outcome.run, outcome.run.settings
    rows = summary_rows(outcome)
    best = best_merge(rows)
    shown = [scored for scored in outcome.fields if scored.seed == 0]
    films = [scored for scored in shown if scored.frames]
    parents = [Contender("parent", group) for group in settings.groups]
    chosen = {*parents, *FIRST_FILMS, *([best.contender] if best else [])}
    return Page(
        title=f"Two fields into one: {run.scene}",
        verdict=verdict(rows, best, parents),
        note=(
            f"PSNR on held-out test views, each against its own picture, background "
            f"{list(run.background)}; median of {settings.seeds} seed pair(s)."
            + "".join(f" FAILED: {one.title}: {one.reason}." for one in outcome.failures)
        ),
        command=settings.command,
        headings=headings(outcome, ", dB"),
        rows=tuple(
            (row.contender.plain_title, shown_figures(outcome, row), row is best) for row in rows
        ),
        table_caption="Parents, yardsticks and merges; the best merge stands out",
        films=tuple(
            Film(
                scored.contender.plain_title,
                sheet_address(scored.frames),
                scored.contender in chosen,
            )
            for scored in films
        ),
        frames=len(films[0].frames) if films else 0,
        columns=COLUMNS,
        size=films[0].frames[0].shape[0] if films else 0,
        views=tuple(
            Standpoint(name, "truth: the held-out picture", picture_address(picture))
            for name, picture in zip(outcome.view_names, outcome.truth, strict=True)
        ),
        views_note="Held-out views: pictures that no field was trained on.",
        shown=tuple(
            Shown(
                scored.contender.plain_title,
                tuple(picture_address(picture) for picture in scored.pictures),
                scored.picture_psnr,
            )
            for scored in shown
        ),
        first=(parents[0].plain_title, (best.contender if best else parents[1]).plain_title),
        curves=curve_plot(outcome),
        maps=tuple(
            Map(f"Parent {known.name}", file_address(known.path), KNOWLEDGE_TEXT)
            for known in outcome.knowledge
        ),
        layers=layers_of(outcome.alignment.layers),
        layers_note=outcome.alignment.why_not or LAYERS_NOTE,
        bars=widths([(s.contender.plain_title, s.seconds, s.parameters) for s in costly(shown)]),
        settings=settings_of(run.as_dict(), outcome.seconds),
    )  # fmt: skip


def costly(shown: Sequence[Scored]) -> list[Scored]:
    """Fields that stand for time or size of their own: not the oracle, which is two."""
    return [scored for scored in shown if scored.contender.kind != "oracle"]


def best_merge(rows: Sequence[SummaryRow]) -> SummaryRow | None:
    """The row of the best merge on all views; None if nothing was merged."""
    merges = [row for row in rows if row.contender.is_default_merge]
    return max(merges, key=lambda row: row.overall, default=None)


def verdict(
    rows: Sequence[SummaryRow], best: SummaryRow | None, parents: Sequence[Contender]
) -> str:
    """What came out, in a sentence or two that hold whatever the figures are."""
    if best is None:
        return "Nothing was merged; the parents and yardsticks are below."
    row_of = {row.contender: row for row in rows}
    batch_norm = best.contender.batch_norm
    oracle = row_of.get(Contender("oracle", "oracle", batch_norm=batch_norm))
    joint = row_of.get(Contender("joint", "joint"))
    own = [
        row_of[parent]
        for parent in (replace(one, batch_norm=batch_norm) for one in parents)
        if parent in row_of
    ]
    if oracle is None or len(own) < len(parents):
        return "Some parents were not scored, see what failed; what is there is below."
    better = max(own, key=lambda row: row.overall)
    said = (
        f"From the two field files alone, {best.contender.plain_title} makes one field of the size "
        f"of one that shows all held-out views at {best.overall:.2f} dB"
    )
    gain = best.overall - better.overall
    if gain <= 0:
        return (
            f"{said}, which is no better than {better.contender.plain_title} alone "
            f"({better.overall:.2f} dB): these parents were not merged well by any method here."
        )
    said += (
        f", {gain:.2f} dB above the better parent alone and {compared(best, oracle)} the two "
        f"parents each on its own half ({oracle.overall:.2f} dB)"
    )
    if joint is not None:
        said += f"; one field trained on all images has {joint.overall:.2f} dB"
    average = row_of.get(Contender.merge("average", batch_norm=batch_norm))
    if average is not None and average is not best:
        said += f", the plain average of the parents {average.overall:.2f} dB"
    return said + "."


def compared(one: SummaryRow, other: SummaryRow) -> str:
    """How much above or below, in dB."""
    difference = one.overall - other.overall
    return f"{abs(difference):.2f} dB {'above' if difference > 0 else 'below'}"


def curve_plot(outcome: Outcome) -> CurvePlot | None:
    """The interpolation curves laid out; None if there are none."""
    content = curve_content(outcome)
    if not content:
        return None
    return plot_curves(
        [(curve["method"].replace("_", " "), curve["psnr"], curve["barrier"]) for curve in content],
        content[0]["coefficients"],
        curve_styles([curve["method"] for curve in content]),
    )


def layers_of(layers: Sequence[LayerSimilarity]) -> tuple[Layer, ...]:
    """Matrices as pictures, with the means of their diagonals."""
    return tuple(
        Layer(
            layer.group, len(layer.before), matrix_address(layer.before),
            matrix_address(layer.after), *layer.diagonals(),
        )
        for layer in layers
    )  # fmt: skip


def settings_of(settings: dict[str, Any], seconds: float) -> tuple[tuple[str, str], ...]:
    """Settings, seeds and versions as text; nested ones are spelt out."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        if isinstance(value, dict):
            text = ", ".join(f"{inner} {found}" for inner, found in value.items())
        elif isinstance(value, list | tuple):
            text = ", ".join(map(str, value))
        else:
            text = str(value)
        if key != "command":
            rows.append((key.replace("_", " "), text or "as by default"))
    return (*rows, ("seconds in all", f"{seconds:.0f}"))
