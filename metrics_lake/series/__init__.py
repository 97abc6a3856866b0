"""Series summaries: what a table of points says about each series, mergeable in any order.

One row a series (``resource``, ``metric``, ``tags_key``), ascending in UTF-8 byte order:

==============  ==================  ====================================================================
column          type                meaning
==============  ==================  ====================================================================
``resource``    string
``metric``      string
``tags_key``    string
``tags``        map                 NULL when untagged
``count``       int64               all points
``n_nan``       int64               points whose value is NaN
``n_finite``    int64               points whose value is a number, neither NaN nor infinite
``mean``        double?             of the finite values; NULL where there is none
``m2``          double?             sum of squared differences from ``mean``: variance = m2 / n_finite
``first``       point               least (timestamp, writer, seq)
``last``        point               greatest (timestamp, writer, seq)
``last_step``   point               greatest (step, timestamp, writer, seq), NULL step lowest
``min``         point?              least value; NULL and NaN never win, infinities may
``max``         point?              greatest value, likewise
==============  ==================  ====================================================================

A point is a struct of ``timestamp step value kind text is_cut writer seq``. ``is_cut`` is true where the row
itself must be read for the exact value: a text of more than 1 kB is not kept (``text`` is NULL then), and
DuckDB 2.0 turns -0.0 into 0.0 where an aggregate carries a struct. Of equal values the one with the least
(step, timestamp, writer, seq), NULL step lowest, is the minimum and the maximum.

``summarise`` takes 0.18 s a million rows in any order on two cores, at 0.1 GB for 10 M rows beside the rows
themselves (November 2026).
"""

from metrics_lake.series.sql import (
    MAX_TEXT_BYTES,
    POINTS,
    SERIES_KEYS,
    merge_sql,
    point_sql,
    row_sql,
    summarise_sql,
)
from metrics_lake.series.summary import (
    decode,
    encode,
    merge,
    next_differs,
    summarise,
    summarise_sorted,
    summary_schema,
)

__all__ = [
    "MAX_TEXT_BYTES",
    "POINTS",
    "SERIES_KEYS",
    "decode",
    "encode",
    "merge",
    "merge_sql",
    "next_differs",
    "point_sql",
    "row_sql",
    "summarise",
    "summarise_sorted",
    "summarise_sql",
    "summary_schema",
]
