from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import memonf

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/choosing.md"])
def test_generated_tables_are_up_to_date(page: str) -> None:
    """The methods, from their classes; the README's short tables, from docs/results.md."""
    done = subprocess.run(
        [sys.executable, "scripts/update_tables.py", page, "--check"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` builds it; a broken link, heading or docstring is an error."""
    pytest.importorskip("furo", reason="needs memonf[docs]")
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs",
         str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "cli.html").read_text(encoding="utf-8")
    assert "memonf doctor" in page
    for built in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r"""<(?:script|link|img|source|iframe|object|embed)[^>]*(?:src|href|data)=["'](?:https?:)?//""",
            built.read_text(encoding="utf-8"),
        )
        assert loaded == [], built.name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", style.read_text("utf-8")), style.name


def test_the_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 700
    assert len(re.findall(r"\]\(docs/", text.partition("## Read on")[2])) <= 8


def test_the_table_of_repair_is_that_of_the_results() -> None:
    """Averages and repaired averages on all views of lego, with and without batch norm."""
    results = (ROOT / "docs" / "results.md").read_text("utf-8")
    lego = results.partition("<!-- lego: begin -->")[2]
    lego = lego.partition("<!-- lego: end -->")[0]
    rows = {
        name + norm: figure
        for name, norm, figure in re.findall(
            r"^\| `(\w+)`((?:, batch norm)?) \|[^|]*\|[^|]*\| ([\d.]+) \|", lego, re.MULTILINE
        )
    }
    page = (ROOT / "docs" / "repair.md").read_text("utf-8")
    titles = {"average": "as they stand", "weight_matching": "weight matching",
              "activation_matching": "activation matching",
              "combined_matching": "combined matching"}  # fmt: skip
    for method, title in titles.items():
        repaired = f"{method}_repair"
        named = (method, repaired, f"{method}, batch norm", f"{repaired}, batch norm")
        assert f"| {title} | {' | '.join(rows[name] for name in named)} |" in page


def test_the_reference_lists_every_public_name() -> None:
    page = (ROOT / "docs" / "reference" / "api.md").read_text("utf-8")
    for name in memonf.__all__:
        if not name.startswith("__"):
            assert f"memonf.{name}\n" in page or name == "MemonfError", name
