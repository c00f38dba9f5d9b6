"""The page of an experiment: what it says, what it holds, that it asks for nothing."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import knowing_pair, plain, small_outcome
from PIL import Image

from memonf import merge
from memonf.evaluation.image_free import assess
from memonf.merging import alignment_similarities
from memonf.report import MOST_BYTES, MergeStory, merge_page, write_page
from memonf.report.addresses import COLUMNS, matrix_address, picture_address, sheet_address
from memonf.report.curves import curve_styles
from memonf.report.experiment_page import experiment_page
from memonf.report.plots import plot_curves


def decoded(address: str) -> np.ndarray:
    kind, _, content = address.partition(",")
    assert kind in ("data:image/png;base64", "data:image/webp;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def written(page, tmp_path: Path) -> str:
    path = tmp_path / "page.html"
    assert write_page(page, path) == path.stat().st_size < MOST_BYTES
    return path.read_text("utf-8")


def addresses(html: str) -> list[str]:
    """All that the page could load or lead to."""
    attributes = re.findall(r'(?:src|href|action|poster|data)="([^"]*)"', html)
    return [*attributes, *re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", html)]


def test_nothing_in_the_page_leads_outside(tmp_path: Path) -> None:
    html = written(experiment_page(small_outcome()), tmp_path)
    assert {found for found in addresses(html) if not found.startswith("data:")} == {"#main"}
    assert "default-src 'none'" in html
    assert re.findall(r"<script[^>]*src|<link", html) == []


def test_a_page_too_large_to_send_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memonf.report.page.MOST_BYTES", 1000)
    with pytest.warns(UserWarning, match="fewer --frames or a smaller --size"):
        write_page(experiment_page(small_outcome()), tmp_path / "page.html")
    assert (tmp_path / "page.html").exists()


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    """A data set may be called anything."""
    hostile = "</script><script>alert(1)</script>"
    outcome = small_outcome()
    outcome = dataclasses.replace(
        outcome, run=dataclasses.replace(outcome.run, scene=hostile), view_names=(hostile, "b")
    )
    html = written(experiment_page(outcome), tmp_path)
    assert "<script>alert" not in html


def test_the_verdict_holds_whatever_came_out() -> None:
    said = experiment_page(small_outcome()).verdict
    assert "distill makes one field of the size of one" in said
    assert "28.00 dB, 4.00 dB above the better parent alone and 2.00 dB below the two" in said
    assert "one field trained on all images has 29.00 dB, the plain average of the parents" in said
    fields = small_outcome().fields
    only_fog = tuple(scored for scored in fields if scored.contender.key != "distill")
    fog = experiment_page(small_outcome(fields=only_fog)).verdict
    assert "no better than parent front alone (24.00 dB)" in fog
    nothing = tuple(scored for scored in only_fog if scored.contender.key != "average")
    assert "Nothing was merged" in experiment_page(small_outcome(fields=nothing)).verdict


def test_pictures_are_kept_bit_for_bit_and_frames_have_their_places() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(decoded(picture_address(picture)), picture)
    sheet = decoded(sheet_address([plain(8 * frame) for frame in range(COLUMNS + 2)]))
    assert sheet.shape == (32, 16 * COLUMNS, 3)
    for frame in (0, 3, COLUMNS + 1):
        down, across = frame // COLUMNS * 16, frame % COLUMNS * 16
        assert abs(int(sheet[down + 8, across + 8, 0]) - 8 * frame) < 4


def test_matrices_are_blue_for_likeness_and_red_for_its_opposite() -> None:
    red, white, blue = decoded(matrix_address(torch.tensor([[-1.0, 0.0, 1.0]])))[0]
    assert white.tolist() == [255, 255, 255]
    assert blue[2] > blue[0]
    assert red[0] > red[2]


def test_curves_lie_where_their_numbers_say() -> None:
    plot = plot_curves(
        [("a", (10.0, 20.0), 0.0), ("b", (20.0, 10.0), 3.0)], (0, 1), [(0, True)] * 2
    )
    (x0, y0), (x1, y1) = plot.lines[0].dots
    left, top, right, bottom = plot.frame
    assert (x0, x1) == (left, right)
    assert (y0, y1) == (bottom, top)
    assert plot.lines[1].dots[0] == (left, top)
    assert [label for _, label in plot.y_ticks][0::5] == ["10", "20"]


def test_twins_share_a_colour_and_dashes_tell_them_apart() -> None:
    names = ["average", "average_repair", "weight_matching", "regmean", "least_squares"]
    assert curve_styles(names) == [(0, True), (0, False), (1, True), (4, False), (5, False)]


def test_aligned_units_are_alike_where_they_were_not() -> None:
    """A parent and itself in another order: the diagonal is 1 once they are aligned."""
    one, other = knowing_pair(shuffled=True)
    for layer in alignment_similarities([one, other]):
        before, after = layer.diagonals()
        assert before < 0.5
        # Units that never change correlate with nothing, themselves included.
        alive = layer.after.abs().amax(1) > 0
        assert float(layer.after.diagonal()[alive].min()) == pytest.approx(1, abs=1e-4)
        assert after > before


@pytest.mark.parametrize("evidence", [True, False])
def test_a_merge_has_a_page_without_any_image(evidence: bool, tmp_path: Path) -> None:
    parents = knowing_pair()
    result = merge(parents, "average", force=True)
    found = assess(result.field, parents) if evidence else None
    story = MergeStory(result.field, parents, ["a", "b"], result.report, found, "memonf merge a b")
    page = merge_page(story, frames=2, size=12)
    assert len(page.films) == 3
    assert [view.name.partition(" of ")[2] for view in page.views] == ["a", "a", "b", "b"]
    own = {shown.name: shown.psnr for shown in page.shown}
    assert own["a"][:2] == (99.0, 99.0)  # a parent beside itself
    assert max(own["merged"]) < 99
    assert ("should reach" in page.verdict) is evidence
    html = written(page, tmp_path)
    assert all(found.startswith(("data:", "#")) for found in addresses(html))
