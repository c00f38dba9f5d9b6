"""Names of what an experiment scores are made in one place, and never taken apart."""

from __future__ import annotations

import dataclasses
import inspect

from memonf.cli.compare import Compare
from memonf.experiment import CompareSettings, Contender


def test_keys_and_titles() -> None:
    rows = {
        Contender("parent", "front"): ("front", "parent front"),
        Contender("parent", "left", batch_norm=True): (
            "left_batch_norm", "parent left, batch norm",
        ),
        Contender("joint", "joint"): ("joint", "joint (all images)"),
        Contender.merge("weight_matching_repair"): (
            "weight_matching_repair", "`weight_matching_repair`",
        ),
        Contender("merge", "distill", "parent"): (
            "distill_from_parent", "`distill` from the first parent",
        ),
        Contender("blend", "blend_by_distance"): (
            "blend_by_distance", "blend by distance (both parents rendered)",
        ),
    }  # fmt: skip
    for contender, (key, title) in rows.items():
        assert (contender.key, contender.title) == (key, title)
    assert Contender.merge("average").plain_title == "average"
    assert Contender("merge", "distill", "scratch").settings(5) == {"steps": 5, "start": "scratch"}
    assert not Contender("merge", "distill", "scratch").is_default_merge


def test_tables_show_parents_yardsticks_merges_and_batch_norm_last() -> None:
    order = [
        Contender("parent", "front"), Contender("parent", "rear"), Contender("oracle", "oracle"),
        Contender("blend", "blend"), Contender("joint", "joint"), Contender.merge("average"),
        Contender.merge("distill"), Contender("merge", "distill", "scratch"),
        Contender("parent", "front", batch_norm=True), Contender.merge("average", batch_norm=True),
    ]  # fmt: skip
    shuffled = sorted(order, key=lambda one: one.key)
    methods = ["average", "distill"]
    assert sorted(shuffled, key=lambda one: one.order(("front", "rear"), methods)) == order


def test_the_command_line_and_python_have_the_same_defaults() -> None:
    flags = inspect.signature(Compare).parameters
    for entry in dataclasses.fields(CompareSettings):
        if entry.name in flags and entry.name not in ("data", "workers", "device"):
            of_python = entry.default
            if entry.name == "most_views":  # 0 is all of them on the command line
                of_python = of_python or 0
            assert flags[entry.name].default == of_python, entry.name
