"""The page of an experiment and of a merge in a real browser: opens offline, its controls work."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import small_outcome

from memonf.report import write_report

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

FRAME = "document.querySelector('#film-{} canvas').toDataURL()"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(small_outcome(), tmp_path_factory.mktemp("report"))


@pytest.fixture
def opened(page: Any, report: Path) -> Any:
    page.goto(report.as_uri())
    playwright.expect(page.locator("#truth-caption")).not_to_be_empty()
    return page


def drawn(page: Any, canvas: str) -> str:
    return page.evaluate(f"document.getElementById('{canvas}').toDataURL()")


def says(page: Any, element: str, start: str) -> None:
    """Wait until an element's text starts so."""
    playwright.expect(page.locator(f"#{element}")).to_have_text(re.compile(f"^{start}"))


def until(page: Any, condition: Callable[[], bool]) -> None:
    """Wait, asking from here: the page's policy lets no script of a test wait inside it."""
    for _ in range(100):
        if condition():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come")


def test_it_opens_without_complaint_and_asks_for_nothing(opened: Any, report: Path) -> None:
    assert opened.complaints == []
    outside = [url for url in opened.asked if not url.startswith("data:")]
    assert outside == [report.as_uri()]
    assert "makes one field" in opened.locator(".verdict").inner_text()


def test_its_policy_forbids_requests(opened: Any) -> None:
    """What a page could be made to ask for is refused by itself."""
    refused = opened.evaluate(
        "fetch('http://127.0.0.1:9/x').then(() => 'asked', error => String(error))"
    )
    assert "asked" not in refused
    assert any("Content Security Policy" in text for text in opened.complaints)


def test_one_control_turns_all_films(opened: Any) -> None:
    if opened.locator("#film-play").inner_text() == "Pause":
        opened.click("#film-play")
    opened.locator("#film-frame").fill("0")
    opened.wait_for_timeout(200)
    before = [opened.evaluate(FRAME.format(number)) for number in (0, 1)]
    opened.locator("#film-frame").focus()
    opened.keyboard.press("ArrowRight")
    after = [opened.evaluate(FRAME.format(number)) for number in (0, 1)]
    assert opened.locator("#film-degrees").inner_text() == "120°"
    assert all(one != other for one, other in zip(before, after, strict=True))
    opened.click("#film-play")
    opened.wait_for_timeout(400)
    opened.click("#film-play")
    assert opened.locator("#film-play").inner_text() == "Play"


def test_films_are_chosen(opened: Any) -> None:
    opened.get_by_text("Choose the fields that turn").click()
    assert opened.locator("#film-0").is_visible()
    opened.locator(".film-choice").first.uncheck()
    assert not opened.locator("#film-0").is_visible()


def test_any_two_fields_are_compared_and_divided(opened: Any) -> None:
    opened.select_option("#left", label="average")
    opened.select_option("#right", label="parent rear")
    says(opened, "left-caption", "average")
    assert "19.0 dB" in opened.locator("#left-caption").inner_text()
    pictures = {drawn(opened, name) for name in ("truth", "left-picture", "right-picture")}
    assert len(pictures) == 3
    middle = drawn(opened, "wipe")
    opened.locator("#divide").fill("10")
    assert drawn(opened, "wipe") != middle
    first = drawn(opened, "truth")
    opened.select_option("#view", index=1)
    until(opened, lambda: drawn(opened, "truth") != first)


def test_errors_are_black_where_pictures_agree(opened: Any) -> None:
    """The parent that shows the truth exactly has no error, the average has."""
    corner = "[...document.getElementById('{}').getContext('2d').getImageData(0, 0, 1, 1).data]"
    opened.select_option("#left", label="parent front")
    opened.select_option("#right", label="average")
    says(opened, "right-caption", "average")
    assert opened.evaluate(corner.format("left-error")) == [4, 4, 30, 255]
    assert opened.evaluate(corner.format("right-error")) == [255, 255, 240, 255]


def test_tables_are_sorted_by_a_click(opened: Any) -> None:
    table = opened.locator("table.sortable")
    table.get_by_role("button", name="all, dB").click()
    values = [float(text) for text in table.locator("tbody td:nth-child(4)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    assert table.locator("th[aria-sort=descending]").inner_text() == "all, dB"


def test_it_follows_the_dark(browser: Any, report: Path) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(report.as_uri())
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(colours) == 2


def test_it_stands_still_for_those_who_want_that_and_prints(browser: Any, report: Path) -> None:
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("#film-play").inner_text() == "Play"
    assert page.pdf()[:4] == b"%PDF"
    page.emulate_media(media="print")
    assert not page.locator("#film-play").is_visible()
    assert page.locator("svg.curves").is_visible()
    context.close()
