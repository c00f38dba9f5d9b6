"""Neural fields: a base class and one architecture per file."""

from .base import (
    ACTIVATIONS,
    FIELDS,
    Field,
    FieldConfig,
    FieldOutput,
    Record,
    build_field,
    known,
    outline,
)

__all__ = [
    "ACTIVATIONS",
    "FIELDS",
    "Field",
    "FieldConfig",
    "FieldOutput",
    "Record",
    "build_field",
    "known",
    "outline",
]
