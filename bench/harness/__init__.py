"""The benchmark behind ``memonf bench``: sides measured in turn, each run in a fresh process."""

from .verb import run

__all__ = ["run"]
