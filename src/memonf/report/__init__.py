"""What experiments and merges leave to look at: tables, curves, pictures, films and a page."""

from .merge_page import MergeStory, merge_page
from .page import MOST_BYTES, write_page
from .tables import failure_content, headings, markdown_table, shown_figures, summary_rows
from .write import FILES, write_report

__all__ = [
    "FILES",
    "MOST_BYTES",
    "MergeStory",
    "failure_content",
    "headings",
    "markdown_table",
    "merge_page",
    "shown_figures",
    "summary_rows",
    "write_page",
    "write_report",
]
