"""Write the tables of ``bench/planted.py`` into the docs.

python scripts/make_planted_table.py FOLDER docs/research/matching.md

FOLDER holds ``planted.jsonl``; the parts ``recovered``, ``solvers``, ``gauges``, ``peers``,
``speed`` and ``scaling`` of the page are filled, as far as there are rows for them.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

from update_tables import replaced

Row: TypeAlias = "dict[str, Any]"

KINDS = ("tiny_nerf", "batch_norm", "siren", "nerf")
OURS = ("descent", "frank_wolfe", "annealing", "best")
PEERS = ("rebasin", "sinkhorn")


def grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some keys."""
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """Markdown, the first column to the left."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def by_noise(
    rows: list[Row], keys: tuple[str, ...], cell: Callable[[list[Row]], str]
) -> tuple[list[str], list[list[str]]]:
    """A column for each noise, a row for each value of the keys."""
    noises = sorted({row["noise"] for row in rows})
    cells = grouped(rows, *keys, "noise")
    names = list(dict.fromkeys(tuple(row[key] for key in keys) for row in rows))
    names.sort(key=lambda name: (KINDS.index(name[0]), *name[1:]) if name[0] in KINDS else name)
    body = [
        [*map(str, name), *(cell(cells[(*name, n)]) if (*name, n) in cells else "" for n in noises)]
        for name in names
    ]
    return [*keys, *(f"noise {noise:g}" for noise in noises)], body


def percent(rows: list[Row]) -> str:
    """Median share of units recovered over the seeds, in per cent."""
    return f"{100 * median(row['recovered'] for row in rows):.1f}"


def recovered_and_agreement(rows: list[Row]) -> str:
    """Median share recovered in per cent, and agreement relative to the planted one."""
    return f"{percent(rows)} ({median(row['agreement'] for row in rows):.3f})"


def peer_cell(rows: list[Row]) -> str:
    """What a package reached, or how it failed."""
    good = [row for row in rows if "recovered" in row]
    if not good:
        return str(rows[0]["status"]).removeprefix("error: ").partition(":")[0]
    seconds = median(row["seconds"] for row in good)
    return f"{recovered_and_agreement(good)}, {seconds:.2g} s"


def peers_table(rows: list[Row]) -> str:
    """Ours beside the packages on the same instances."""
    instances = {instance(row) for row in rows if row["tool"] in PEERS}
    shared = [
        row for row in rows
        if instance(row) in instances and row["tool"] in ("descent", "best", *PEERS)
    ]  # fmt: skip
    tools = ["rebasin", "sinkhorn", "descent", "best"]
    cells = grouped(shared, "kind", "width", "noise", "tool")
    keys = sorted({k[:3] for k in cells}, key=lambda k: (KINDS.index(k[0]), *k[1:]))
    body = [
        [kind, str(width), f"{noise:g}",
         *(peer_cell(cells[kind, width, noise, t]) if (kind, width, noise, t) in cells else ""
           for t in tools)]
        for kind, width, noise in keys
    ]  # fmt: skip
    return table(["network", "width", "noise", *tools], body)


def never_below(rows: list[Row]) -> str:
    """How often the best solver ended below another on the same instance, in its own objective."""
    found = [
        {row["tool"]: row["objective"] for row in of_one if row["tool"] in OURS}
        for of_one in grouped(rows, "kind", "width", "noise", "seed").values()
    ]
    found = [tools for tools in found if {"best", "descent", "frank_wolfe"} <= tools.keys()]
    below = sum(tools["best"] < (1 - 1e-9) * max(tools.values()) for tools in found)
    above = sum(
        tools["best"] > (1 + 1e-6) * max(tools["descent"], tools["frank_wolfe"]) for tools in found
    )
    return (
        f"Of {len(found)} instances, `best` ended below another solver on {below}, and above both "
        f"`descent` and `frank_wolfe` on {above}."
    )


def instance(row: Row) -> tuple[Any, ...]:
    """What tells instances apart."""
    return tuple(row[key] for key in ("kind", "width", "noise", "seed", "gauges"))


def gauges_table(rows: list[Row]) -> str:
    """Largest output error of the merge with a planted guise, by width."""
    exact = [row for row in rows if row["gauges"] and row["noise"] == 0 and row["tool"] == "best"]
    widths = sorted({row["width"] for row in exact})
    cells = grouped(exact, "kind", "width")
    body = [
        [kind, *(
            f"{max(row['error'] for row in cells[kind, width]):.1e}"
            if (kind, width) in cells else "" for width in widths
        )]
        for kind in KINDS
    ]  # fmt: skip
    return table(["network", *(f"width {width}" for width in widths)], body)


def scaling_table(rows: list[Row]) -> str:
    """Seconds of one match without noise, by width."""
    widths = sorted({row["width"] for row in rows})
    cells = grouped(rows, "kind", "gauges", "width")
    body = [
        [kind, "equivalent params" if gauges else "orders", *(
            f"{median(row['seconds'] for row in cells[kind, gauges, width]):.2g}"
            if (kind, gauges, width) in cells else "" for width in widths
        )]
        for kind in KINDS for gauges in (False, True)
    ]  # fmt: skip
    return table(["network", "planted", *(f"width {width}" for width in widths)], body)


def speed_table(rows: list[Row]) -> str:
    """Medians of seconds on the same instances in one run, and their ratio."""
    of = {key[0]: [r["seconds"] for r in found] for key, found in grouped(rows, "tool").items()}
    ours, theirs = median(of["best"]), median(of["rebasin"])
    body = [
        [tool, f"{median(of[tool]):.3f}", f"{min(of[tool]):.3f} to {max(of[tool]):.3f}"]
        for tool in ("best", "rebasin")
    ]
    lines = table(["tool", "seconds, median", "range"], body)
    return f"{lines}\n\nRatio of the medians, {len(of['best'])} seeds: {theirs / ours:.1f}."


def read(path: Path) -> list[Row]:
    """All rows of a file of JSON lines; none if it is missing."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description="tables of planted symmetries")
    parser.add_argument("folder", type=Path)
    parser.add_argument("page", type=Path)
    parser.add_argument("--scaling", type=Path, default=None, help="folder of the scaling runs")
    parser.add_argument("--speed", type=Path, default=None, help="folder of the runs in turn")
    options = parser.parse_args()
    rows = read(options.folder / "planted.jsonl")
    orders = [row for row in rows if not row["gauges"]]
    best = [row for row in orders if row["tool"] == "best"]
    widest = max((row["width"] for row in orders if row["tool"] == "annealing"), default=0)
    each = [row for row in orders if row["tool"] in OURS and row["width"] == widest]
    text = options.page.read_text(encoding="utf-8")
    text = replaced(text, "recovered", table(*by_noise(best, ("kind", "width"), percent)))
    solvers = table(*by_noise(each, ("kind", "tool"), recovered_and_agreement))
    text = replaced(text, "solvers", f"Width {widest}.\n\n{solvers}\n\n{never_below(orders)}")
    text = replaced(text, "gauges", gauges_table(rows))
    if any(row["tool"] in PEERS for row in rows):
        text = replaced(text, "peers", peers_table(orders))
    if options.speed is not None:
        text = replaced(text, "speed", speed_table(read(options.speed / "planted.jsonl")))
    if options.scaling is not None:
        scaled = read(options.scaling / "planted.jsonl")
        text = replaced(text, "scaling", scaling_table(scaled))
    options.page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
