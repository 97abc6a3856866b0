"""Inspection of a lake: its live files, versions, writers and gaps, and the verification of everything."""

from metrics_lake.inspection.accessor import Inspection
from metrics_lake.inspection.report import Finding, Quarantine, Report

__all__ = ["Finding", "Inspection", "Quarantine", "Report"]
