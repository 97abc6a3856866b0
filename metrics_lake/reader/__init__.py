"""Answers from the lake: snapshot and pending rows, pruned files, one query, one result."""

from __future__ import annotations

from metrics_lake.reader.lookup import Order, Point
from metrics_lake.reader.ranking import best, compare
from metrics_lake.reader.reader import Reader
from metrics_lake.reader.selection import Ids, IdsLike, Selection, StepsLike
from metrics_lake.reader.views import connect, sql

__all__ = [
    "Ids",
    "IdsLike",
    "Order",
    "Point",
    "Reader",
    "Selection",
    "StepsLike",
    "best",
    "compare",
    "connect",
    "sql",
]
