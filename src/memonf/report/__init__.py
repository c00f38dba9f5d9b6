"""What an experiment leaves to look at: tables, curves, pictures, films and a page."""

from .tables import markdown_table, summary_rows
from .write import write_report

__all__ = ["markdown_table", "summary_rows", "write_report"]
