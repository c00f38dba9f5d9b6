"""What the page of an experiment shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..experiment import BATCH_NORM, Outcome, Scored
from ..merging import METHODS, LayerSimilarity
from .addresses import COLUMNS, file_address, matrix_address, picture_address, sheet_address
from .curves import curve_content, curve_styles
from .page import Film, Layer, Map, Page, Shown, Standpoint, widths
from .plots import CurvePlot, plot_curves
from .tables import described_name, headings, shown_figures, summary_rows

__all__ = ["KNOWLEDGE_TEXT", "LAYERS_NOTE", "experiment_page", "layers_of"]

#: Of films that are shown at first, beside the parents and the best merge.
FIRST_FILMS = (
    "joint", "average", "weight_matching", "weight_matching_repair",
    "activation_matching", "activation_matching_repair",
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
    settings = outcome.settings
    rows = summary_rows(outcome)
    best = best_merge(rows)
    shown = [scored for scored in outcome.fields if scored.seed == 0]
    films = [scored for scored in shown if scored.frames]
    parents = tuple(settings["groups"])
    chosen = {*parents, *FIRST_FILMS, best["name"] if best else ""}
    return Page(
        title=f"Two fields into one: {settings['data_name']}",
        verdict=verdict(rows, best, parents),
        note=(
            f"PSNR on held-out test views, each against its own picture, background "
            f"{settings['background']}; median of {settings['seeds']} seed pair(s)."
        ),
        command=settings["command"],
        headings=headings(outcome, ", dB"),
        rows=tuple(
            (plain_name(row["name"]), shown_figures(outcome, row), row is best) for row in rows
        ),
        table_caption="Parents, yardsticks and merges; the best merge stands out",
        films=tuple(
            Film(plain_name(scored.name), sheet_address(scored.frames), scored.name in chosen)
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
                plain_name(scored.name),
                tuple(picture_address(picture) for picture in scored.pictures),
                scored.picture_psnr,
            )
            for scored in shown
        ),
        first=(plain_name(parents[0]), plain_name(best["name"] if best else parents[1])),
        curves=curve_plot(outcome),
        maps=tuple(
            Map(f"Parent {known.name}", file_address(known.path), KNOWLEDGE_TEXT)
            for known in outcome.knowledge
        ),
        layers=layers_of(outcome.alignment.layers),
        layers_note=outcome.alignment.why_not or LAYERS_NOTE,
        bars=widths([(plain_name(s.name), s.seconds, s.parameters) for s in costly(shown)]),
        settings=settings_of(settings, outcome.seconds),
    )  # fmt: skip


def plain_name(name: str) -> str:
    """A field's name for people, without marks of code."""
    return described_name(name).replace("`", "").replace("_", " ")


def costly(shown: Sequence[Scored]) -> list[Scored]:
    """Fields that stand for time or size of their own: not the oracle, which is two."""
    return [scored for scored in shown if scored.method != "oracle"]


def best_merge(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the best merge on all views; None if nothing was merged."""
    merges = [row for row in rows if row["name"].removesuffix(BATCH_NORM) in METHODS]
    return max(merges, key=lambda row: row["all"], default=None)


def verdict(
    rows: Sequence[dict[str, Any]], best: dict[str, Any] | None, groups: Sequence[str]
) -> str:
    """What came out, in a sentence or two that hold whatever the figures are."""
    named = {row["name"]: row for row in rows}
    if best is None:
        return "Nothing was merged; the parents and yardsticks are below."
    suffix = BATCH_NORM if best["name"].endswith(BATCH_NORM) else ""
    oracle, joint = named["oracle" + suffix], named.get("joint")
    parents = [named[f"{group}{suffix}"] for group in groups]
    better = max(parents, key=lambda row: row["all"])
    said = (
        f"From the two field files alone, {plain_name(best['name'])} makes one field of the size "
        f"of one that shows all held-out views at {best['all']:.2f} dB"
    )
    gain = best["all"] - better["all"]
    if gain <= 0:
        return (
            f"{said}, which is no better than {plain_name(better['name'])} alone "
            f"({better['all']:.2f} dB): these parents were not merged well by any method here."
        )
    said += (
        f", {gain:.2f} dB above the better parent alone and {compared(best, oracle)} the two "
        f"parents each on its own half ({oracle['all']:.2f} dB)"
    )
    if joint is not None:
        said += f"; one field trained on all images has {joint['all']:.2f} dB"
    average = named.get("average" + suffix)
    if average is not None and average is not best:
        said += f", the plain average of the parents {average['all']:.2f} dB"
    return said + "."


def compared(one: dict[str, Any], other: dict[str, Any]) -> str:
    """How much above or below, in dB."""
    difference = one["all"] - other["all"]
    return f"{abs(difference):.2f} dB {'above' if difference > 0 else 'below'}"


def curve_plot(outcome: Outcome) -> CurvePlot | None:
    """The interpolation curves laid out; None if there are none."""
    content = curve_content(outcome)
    if not content:
        return None
    return plot_curves(
        [(plain_name(curve["method"]), curve["psnr"], curve["barrier"]) for curve in content],
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
