"""One thing that a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from metrics_lake.charts import Chart

__all__ = ["Panel"]


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart, a table or both, and what is to be said about them.

    Attributes:
        title: One line.
        caption: What is shown, what is not, and how many there are.
        table: Rows to be shown as text; None: there are none to show.
        chart: An Altair chart; None: nothing can be drawn.
    """

    title: str
    caption: str
    table: pa.Table | None = None
    chart: Chart | None = None
