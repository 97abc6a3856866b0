"""Altair, imported late, and data in the form that costs it least."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeAlias

from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    import altair
    import pyarrow as pa

__all__ = ["Chart", "altair_module", "inline", "vega_lite_version"]

Chart: TypeAlias = (
    "altair.Chart | altair.LayerChart | altair.FacetChart | altair.VConcatChart | altair.ConcatChart"
)
"""What the functions of this package return."""


def altair_module() -> Any:
    """Return Altair.

    Raises:
        InvalidInputError: It is not installed.
    """
    try:
        import altair
    except ModuleNotFoundError as error:
        if error.name != "altair":
            raise
        raise InvalidInputError(
            "charts need Altair, which is not installed.",
            hint='pip install "metrics-lake[plot]", or take the rows with .pl() or .arrow().',
        ) from error
    return altair


def inline(table: pa.Table) -> Any:
    """Return a table as the data of a chart.

    CSV: Altair checks 40,000 rows of JSON for three seconds and refuses more than 5,000 of a data frame; a
    text it passes on, and it is a third of the size. NULL is an empty field, which Vega reads as null.
    """
    import pyarrow as pa
    import pyarrow.csv

    alt = altair_module()
    parse = {field.name: "string" if pa.types.is_string(field.type) else "number" for field in table.schema}
    sink = io.BytesIO()
    pyarrow.csv.write_csv(table, sink)
    return alt.InlineData(values=sink.getvalue().decode(), format=alt.CsvDataFormat(type="csv", parse=parse))


def vega_lite_version() -> str:
    """Return the version of Vega-Lite that charts are written for, such as ``6.4``."""
    version: str = altair_module().SCHEMA_VERSION
    return ".".join(version.removeprefix("v").split(".")[:2])
