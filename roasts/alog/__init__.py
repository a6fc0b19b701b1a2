"""Artisan's ``.alog``: `read_alog` (raises AlogError only) and `write_alog`. Pure."""

from roasts.alog.reading import AlogError, read_alog
from roasts.alog.writing import write_alog
from roasts.formats.imported import ImportedRoast

__all__ = ["AlogError", "ImportedRoast", "read_alog", "write_alog"]
