"""Files that data sets are described by: size-limited bytes and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import DataError

__all__ = ["read_bytes", "read_json"]

#: Larger than the cameras of a hundred thousand pictures.
MOST_JSON = 1 << 28


def read_bytes(file: Path, most: int) -> bytes:
    """Content of a file that is not larger than it should be.

    Args:
        file: An ordinary file.
        most: Bytes.

    Raises:
        DataError: It cannot be read, is no ordinary file, or is larger.
    """
    try:
        if not file.is_file():
            raise DataError(f"{file}: expected a file")
        if (size := file.stat().st_size) > most:
            raise DataError(f"{file}: {size} bytes, expected at most {most}; is it another file?")
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, or say where it is broken.

    Raises:
        DataError: Not there, too large, not JSON, no object, or nested like a bomb.
    """
    try:
        content = json.loads(read_bytes(file, MOST_JSON).decode("utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DataError(f"{file}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected a JSON object, received {type(content).__name__}")
    return content
