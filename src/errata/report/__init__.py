"""The report of an audit: one HTML file that a person enjoys reading."""

from errata.report.build import build_report

__all__ = ["build_report"]
