"""The tables that states in long form consist of: their columns, and frames that have just these."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import polars as pl

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXCLUDED", "HEAD", "NO_ROWS", "SCHEMAS", "shaped"]

EXCLUDED: Final = ("null", "nan", "inf", "range", "truth_null", "truth_nan", "truth_inf")

_HEAD: Final[dict[str, Any]] = {
    "gid": pl.Int64,
    "resource": pl.String,
    "column": pl.String,
    "task": pl.String,
    "state": pl.String,
    "res": pl.Int64,
    "segment_key": pl.String,
    "window_start": pl.Datetime("us", "UTC"),
    "window_end": pl.Datetime("us", "UTC"),
    "part_id": pl.String,
    "n": pl.Int64,
    "sum_w": pl.Float64,
    **dict.fromkeys(EXCLUDED, pl.Int64),
    "params": pl.String,
    "created": pl.Datetime("us", "UTC"),
    "writer": pl.String,
}

HEAD: Final = pl.Schema(_HEAD)

SCHEMAS: Final = {
    "cells": pl.Schema({"gid": pl.Int64, "cell": pl.Int64, "y": pl.Int8, "n": pl.Int64, "sum_w": pl.Float64}),
    "calib": pl.Schema({
        "gid": pl.Int64, "bin": pl.Int16, "yhat": pl.Int16, "y": pl.Int8, "n": pl.Int64, "sum_w": pl.Float64,
        "sum_s": pl.Float64, "sum_se": pl.Float64, "sum_ll": pl.Float64,
    }),
    "ties": pl.Schema({"gid": pl.Int64, "cell": pl.Int64, "value": pl.Float64}),
    "moments": pl.Schema({
        "gid": pl.Int64, "of": pl.String, "n": pl.Int64, "sum_w": pl.Float64, "sum": pl.Float64,
        "mean": pl.Float64, "m2": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    }),
    "confusion": pl.Schema({
        "gid": pl.Int64, "truth": pl.String, "pred": pl.String, "n": pl.Int64, "sum_w": pl.Float64,
    }),
}  # fmt: skip
"""The long tables. In ``ties`` every cell of ``cells`` has a row; its value is NULL where rows differ."""

NO_ROWS: Final = {name: pl.DataFrame(schema=schema) for name, schema in SCHEMAS.items()}


def shaped(
    frame: pl.DataFrame, schema: pl.Schema, given: Mapping[str, pl.Expr] | None = None
) -> pl.DataFrame:
    """Return the frame with exactly these columns and types; what it lacks is NULL.

    Args:
        frame: The rows.
        schema: The columns.
        given: Columns to take instead of the frame's, in their types.
    """
    has = frame.schema
    if not given and has == schema:
        return frame
    columns: dict[str, Any] = {
        name: name if has[name] == dtype else pl.col(name).cast(dtype)
        for name, dtype in schema.items()
        if name in has
    }
    columns |= {name: column.alias(name) for name, column in (given or {}).items()}
    return frame.select(columns.get(name, _null(name, dtype)) for name, dtype in schema.items())


@cache
def _null(name: str, dtype: Any) -> pl.Expr:
    return pl.lit(None, dtype=dtype).alias(name)
