"""What a summary says, in SQL."""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_TEXT_BYTES",
    "POINTS",
    "POINT_FIELDS",
    "SERIES_KEYS",
    "merge_sql",
    "point_sql",
    "row_sql",
    "summarise_sql",
]

MAX_TEXT_BYTES: Final = 1024
"""Longer texts are not copied into a summary."""

SERIES_KEYS: Final = ("resource", "metric", "tags_key")
"""What a series is, and the order of a summary."""

POINTS: Final = ("first", "last", "last_step", "min", "max")
"""The columns that are whole points."""

POINT_FIELDS: Final = ("timestamp", "step", "value", "kind", "text", "is_cut", "writer", "seq")

# A step that may be NULL, as two columns whose order puts NULL first.
_EARLY_STEP: Final = "{p}step IS NOT NULL, coalesce({p}step, 0), {p}timestamp, {p}writer, {p}seq"
_BY_TIME: Final = "({p}timestamp, {p}writer, {p}seq)"
_BY_STEP: Final = f"({_EARLY_STEP})"
_ORDER: Final[dict[str, tuple[str, str]]] = {
    "first": ("arg_min", _BY_TIME),
    "last": ("arg_max", _BY_TIME),
    "last_step": ("arg_max", _BY_STEP),
    "min": ("arg_min", f"({{p}}value, {_EARLY_STEP})"),
    "max": ("arg_min", f"(-{{p}}value, {_EARLY_STEP})"),
}
"""The aggregate that picks each point, and what it compares."""

_IS_MINUS_ZERO: Final = "coalesce(value = 0 AND signbit(value), false)"

_HAS_VALUE: Final = {"min": "NOT isnan(value)", "max": "NOT isnan(value)"}
"""Which rows a point is picked from; a NULL is not NOT NaN."""

_KEYS: Final = ", ".join(SERIES_KEYS)


def merge_sql(parts: str) -> str:
    """Return the SQL that merges the rows of a table of summaries into one row a series, in order."""
    points = ",\n".join(_pick(name, f'"{name}"', f'"{name}".', f'"{name}" IS NOT NULL') for name in POINTS)
    # Not sum(n * mean ** 2) - N * mean ** 2, which cancels: the common mean first, then the differences.
    return f"""
        WITH parts_with_mean AS (
            SELECT *, sum(mean * n_finite) OVER series / nullif(sum(n_finite) OVER series, 0) AS common_mean
            FROM {parts}
            WINDOW series AS (PARTITION BY {_KEYS})
        )
        SELECT
            {_KEYS},
            any_value(tags) AS tags,
            sum("count")::BIGINT AS "count",
            sum(n_nan)::BIGINT AS n_nan,
            sum(n_finite)::BIGINT AS n_finite,
            CASE WHEN count(mean) = 1 THEN any_value(mean) ELSE any_value(common_mean) END AS mean,
            CASE WHEN count(mean) = 1 THEN any_value(m2)
                ELSE sum(m2) + sum(n_finite * (mean - common_mean) * (mean - common_mean)) END AS m2,
            {points}
        FROM parts_with_mean
        GROUP BY {_KEYS}
        ORDER BY {_KEYS}
    """


def point_sql(name: str) -> str:
    """Return the SQL aggregate that picks one of ``POINTS`` from rows, with its whole text.

    Its ``is_cut`` is true for -0.0, which ``row_sql`` gives exactly.
    """
    return _pick(name, _struct(is_cut=_IS_MINUS_ZERO), "", _HAS_VALUE.get(name, "true"))


def row_sql() -> str:
    """Return the SQL of one row as a point, exact."""
    return _struct(is_cut="false")


def _struct(**changes: str) -> str:
    fields = {**{name: name for name in POINT_FIELDS}, **changes}
    return "{" + ", ".join(f"'{name}': {sql}" for name, sql in fields.items()) + "}"


def _pick(name: str, what: str, prefix: str, condition: str) -> str:
    aggregate, order = _ORDER[name]
    return f'{aggregate}({what}, {order.format(p=prefix)}) FILTER (WHERE {condition}) AS "{name}"'


def summarise_sql(rows: str) -> str:
    """Return the SQL that summarises the rows of a table or subquery; cast its result to the schema."""
    point = _struct(
        text=f"CASE WHEN strlen(text) <= {MAX_TEXT_BYTES} THEN text END",
        is_cut=f"coalesce(strlen(text) > {MAX_TEXT_BYTES}, false) OR {_IS_MINUS_ZERO}",
    )
    points = ",\n".join(_pick(name, point, "", _HAS_VALUE.get(name, "true")) for name in POINTS)
    return f"""
        SELECT
            {_KEYS},
            any_value(tags) AS tags,
            count(*) AS "count",
            count(*) FILTER (WHERE isnan(value)) AS n_nan,
            count(*) FILTER (WHERE isfinite(value)) AS n_finite,
            avg(value) FILTER (WHERE isfinite(value)) AS mean,
            var_pop(value) FILTER (WHERE isfinite(value))
                * count(*) FILTER (WHERE isfinite(value)) AS m2,
            {points}
        FROM {rows}
        GROUP BY {_KEYS}
        ORDER BY {_KEYS}
    """
