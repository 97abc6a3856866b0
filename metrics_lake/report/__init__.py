"""One self-contained HTML file about a lake: ``lake.report``."""

from metrics_lake.report.contents import write_report

__all__ = ["write_report"]
