"""The command line; thin: what it does, a few lines of Python do."""

from .main import main

__all__ = ["main"]
