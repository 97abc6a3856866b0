"""The columns of a state table: plain rows, so that any engine merges them with GROUP BY and SUM."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa

from metrics_lake.schema import PREDICTION_STATES, arrow_schema

__all__ = ["FINAL_SCHEMA", "LISTS", "STATE_SCHEMA", "STATE_VERSION", "empty_state"]

STATE_VERSION: Final = 1
"""The meaning of a state's columns; states of a greater one are refused."""

_IN_LAKE: Final = arrow_schema(PREDICTION_STATES)

_STATE_FIELDS: list[Any] = [
    # The lake's columns, but for those that say which row of the lake it is.
    *(field for field in _IN_LAKE if field.name not in ("timestamp", "writer", "seq", "origin")),
    pa.field("created", _IN_LAKE.field("timestamp").type),
    pa.field("writer", pa.string()),
]

STATE_SCHEMA: Final = pa.schema(_STATE_FIELDS)
"""The state table. One row is the state of one column in one window and one segment.

===============================  ===========================================================================
column                           meaning
===============================  ===========================================================================
``resource``                     the prediction job; ``''`` until a lake stores it
``column``                       the score or prediction column
``task``                         ``binary multiclass regression unknown``
``state``                        what the row describes: ``scores labels class_scores numbers residuals``
``res``                          the resolution of ``cells`` in bits; NULL where there are none
``segment``, ``segment_key``     the segment's values, for reading and (canonical JSON, ``''`` for all rows)
                                 for grouping
``window_start``, ``window_end`` the half-open time window; NULL where rows are not windowed
``part_id``                      the part of the job; NULL where the row is the merge of several parts
``n``, ``sum_w``                 all rows, unusable ones included; the weights of the usable ones (NULL: each
                                 row weighs 1)
``excluded``                     rows that could not be used: ``null nan inf range`` by their prediction,
                                 ``truth_*`` rows with a usable prediction and no usable truth
``cells``                        rows in each cell of the histogram; ``y`` is 1 for the positive class, 0 for
                                 the other, NULL without truth (and for numbers)
``calib``                        rows and sums for each 1/60 of the score (``bin``), decision (``yhat``: how
                                 many of the thresholds the score reaches, or the predicted class) and truth
                                 (``y``): of the score, of the squared error, of the log loss
``ties``                         the cells all of whose rows have one and the same value
``moments``                      by name (``of``): count, sum, or mean and sum of squared deviations, range
``confusion``                    rows for each pair of true class (NULL without truth) and predicted class
``params``                       JSON: labels, thresholds, weights, the parts that were merged
``created``, ``writer``          who stored it and when; NULL until a lake does
===============================  ===========================================================================
"""

LISTS: Final = ("cells", "calib", "ties", "moments", "confusion")
"""The list columns of a state."""

_FINAL_FIELDS: list[Any] = [
    pa.field("resource", pa.string(), nullable=False),
    pa.field("window_start", pa.timestamp("us", tz="UTC")),
    pa.field("window_end", pa.timestamp("us", tz="UTC")),
    pa.field("segment", pa.map_(pa.string(), pa.string())),
    pa.field("metric", pa.string(), nullable=False),
    pa.field("label", pa.string()),
    pa.field("value", pa.float64()),
    pa.field("n", pa.int64()),
    pa.field("low", pa.float64()),
    pa.field("high", pa.float64()),
    pa.field("bound", pa.float64()),
    pa.field("method", pa.string()),
    pa.field("reason", pa.string()),
]

FINAL_SCHEMA: Final = pa.schema(_FINAL_FIELDS)
"""The table of numbers: ``bound`` is the proved error bound of ``value`` (0 where it is exact), ``low`` and
``high`` the confidence interval, ``reason`` says why a value is NULL."""


def empty_state() -> pa.Table:
    """Return a state table without rows."""
    return STATE_SCHEMA.empty_table()
