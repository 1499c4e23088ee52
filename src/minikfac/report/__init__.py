"""The report of a tour: figures, one self-contained page, and every number as data."""

from .write import Written, write_report

__all__ = ["Written", "write_report"]
