"""What experiments and merges leave to look at: tables, curves, pictures, films and a page."""

from .merge_page import MergeStory, merge_page
from .page import MOST_BYTES, write_page
from .tables import markdown_table, summary_rows
from .write import write_report

__all__ = [
    "MOST_BYTES",
    "MergeStory",
    "markdown_table",
    "merge_page",
    "summary_rows",
    "write_page",
    "write_report",
]
