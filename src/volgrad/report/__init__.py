"""Reports for people: one self-contained HTML page a run."""

from volgrad.report.page import write_report

__all__ = ["write_report"]
