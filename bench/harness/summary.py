"""What all turns come to: one JSON document, and its tables for people and for the docs."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from .case import Case
from .figures import SIGNS, Claim, Spread, claimed, is_met, number, spread_of
from .measuring import Turn, figures_of

__all__ = ["case_summary", "case_table", "claim_text", "document_table", "reached_text"]


def case_summary(case: Case, same: dict[str, Any], turns: list[Turn]) -> dict[str, Any]:
    """Medians, ranges and claims of one case.

    Args:
        case: The case.
        same: Its `measuring.identity`.
        turns: All its turns.
    """
    sides = list(dict.fromkeys(turn.side for turn in turns))
    names = {side: figure_names(turns, side) for side in sides}
    claims = []
    for claim in case.claims():
        ours = figures_of(turns, claim.ours, claim.figure)
        theirs = figures_of(turns, claim.theirs, claim.figure) if claim.theirs else []
        if ours and (theirs or claim.by == "value"):
            reached = claimed(claim, ours, theirs)
            claims.append(
                {**asdict(claim), "reached": asdict(reached), "met": is_met(claim.goal, reached)}
            )
    loads = [turn.load for turn in turns]
    return {
        "case": case.name,
        "title": case.title,
        **{key: same[key] for key in ("settings", "threads", "code")},
        "rounds": len({turn.round for turn in turns}),
        "load": {"median": median(loads), "most": max(loads)},
        "sides": {
            side: {
                name: asdict(spread_of(figures_of(turns, side, name))) for name in names[side]
            }
            for side in sides
        },
        "claims": claims,
        "curves": {
            side: [turn.measured.curve for turn in turns if turn.side == side and
                   turn.measured.curve]
            for side in sides
        },
        "notes": list(dict.fromkeys(note for turn in turns for note in turn.measured.notes)),
    }  # fmt: skip


def figure_names(turns: list[Turn], side: str) -> list[str]:
    """Names of a side's figures, in the order in which they first come up."""
    own = [turn.measured.figures for turn in turns if turn.side == side]
    return list(dict.fromkeys(name for figures in own for name in figures))


def case_table(summary: dict[str, Any]) -> str:
    """One case in Markdown: a row a side, a column a figure, then the claims and how it ran."""
    sides = summary["sides"]
    units = {name: own["unit"] for figures in sides.values() for name, own in figures.items()}
    lines = [f"### {summary['title']}", ""]
    lines += [f"| | {' | '.join(f'{name}, {unit}' for name, unit in units.items())} |"]
    lines += ["|---|" + "---:|" * len(units)]
    for side, figures in sides.items():
        cells = [spread(figures[name]).text() if name in figures else "" for name in units]
        lines.append(f"| {side} | {' | '.join(cells)} |")
    if summary["claims"]:
        lines += ["", "| claim | median | range | goal | |", "|---|---:|---:|---:|---|"]
        lines += [claim_row(claim) for claim in summary["claims"]]
    settings = ", ".join(f"{key} {shown(value)}" for key, value in summary["settings"].items())
    lines += [
        "",
        *(f"{note}  " for note in summary["notes"]),
        f"{summary['rounds']} round(s) in turn, {summary['threads']} thread(s) each, load before "
        f"each run {summary['load']['median']:.1f} (median), {summary['load']['most']:.1f} (most); "
        f"{settings}.",
    ]
    return "\n".join(lines)


def shown(value: Any) -> str:
    """A setting for people."""
    if isinstance(value, list):
        return "/".join(shown(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def spread(values: dict[str, Any]) -> Spread:
    """A spread from its plain values."""
    return Spread(**{**values, "values": tuple(values["values"])})


def claim_text(claim: dict[str, Any]) -> str:
    """What is claimed, in words."""
    own = Claim(**{key: claim[key] for key in ("figure", "ours", "theirs", "by", "goal")})
    if own.by == "value":
        return f"{own.figure}, {own.ours}"
    if own.by == "ratio":
        return f"{own.figure}: {own.theirs} / {own.ours}"
    return f"{own.figure}: {own.ours} − {own.theirs}"


def reached_text(claim: dict[str, Any]) -> str:
    """The median that a claim came to, with its unit."""
    reached = spread(claim["reached"])
    return f"{SIGNS[reached.kind]}{number(reached.median, reached.unit)} {reached.unit}"


def claim_row(claim: dict[str, Any]) -> str:
    """One claim in Markdown."""
    reached = spread(claim["reached"])
    bounds = reached.range_text() if len(reached.values) > 1 else ""
    goal = "" if claim["goal"] is None else f"≥ {claim['goal']:g}"
    verdict = {True: "met", False: "not met", None: "not decided" if goal else ""}[claim["met"]]
    return f"| {claim_text(claim)} | {reached_text(claim)} | {bounds} | {goal} | {verdict} |"


def document_table(document: dict[str, Any]) -> str:
    """All cases in Markdown, and what they ran on."""
    machine, versions = document["machine"], document["versions"]
    parts = [case_table(summary) for summary in document["cases"]]
    parts.append(
        f"Median (least to most); ≥ and ≤: bounds, ≈: extrapolated. {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['memory']} GiB, {machine['system']}; Python "
        f"{versions['python']}, torch {versions['torch']}, memonf {versions['memonf']}. "
        f"Made by `{document['command']}`."
    )
    return "\n\n".join(parts)
