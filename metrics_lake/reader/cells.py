"""Values of many types as one column: as people look at them, and as SQL compares them."""

from __future__ import annotations

from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from metrics_lake.values import decode

__all__ = ["cell_column", "is_exact", "numbers_column"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no Python scalars as arguments

_BOOLS: Final = frozenset({"bool", "np.bool"})
_EXACT: Final = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "str": pa.string()}


def cell_column(cells: pa.Table) -> Any:
    """Return values as an Arrow column of the one type that fits all of them.

    bool where all are; int64 where all are ints whose double says all; double where all are numbers; else
    texts: a str is itself, what has no numeric view its stored text, a number as Python writes it.

    Args:
        cells: With the columns ``kind value text``; a NULL ``kind`` is no value.
    """
    kinds = _kinds(cells)
    is_text = pc.and_(_has_value(cells), pc.is_null(cells.column("value")))
    if not pc.any(is_text).as_py():
        return _numbers(cells, kinds)
    if kinds == {"str"}:
        return cells.column("text")
    rows = zip(*(cells.column(name).to_pylist() for name in ("kind", "value", "text")), strict=True)
    return pa.array([_shown(*row) for row in rows], pa.string())


def numbers_column(cells: pa.Table) -> Any:
    """Return values as a condition compares them: numbers if there is any, else texts.

    As ``cell_column``, but where numbers and texts meet, the texts are NULL.
    """
    if pc.any(pc.is_valid(cells.column("value"))).as_py():
        return _numbers(cells, _kinds(cells))
    return cell_column(cells)


def is_exact(cells: pa.Table) -> bool:
    """Say whether ``cell_column`` gives each value back as it was logged, with its type."""
    kinds = _kinds(cells)
    if len(kinds) != 1:
        return not kinds
    return bool(_EXACT.get(kinds.pop()) == cell_column(cells).type)


def _kinds(cells: pa.Table) -> set[Any]:
    return set(pc.unique(cells.column("kind")).to_pylist()) - {None, "null"}


def _has_value(cells: pa.Table) -> Any:
    kind: Any = cells.column("kind")
    return pc.fill_null(pc.not_equal(kind, "null"), False)


def _numbers(cells: pa.Table, kinds: set[Any]) -> Any:
    value: Any = cells.column("value")
    if kinds and kinds <= _BOOLS:
        return value.cast(pa.bool_())
    has_digits = pc.any(pc.is_valid(cells.column("text"))).as_py()
    if kinds and all(_is_int(each) for each in kinds) and not has_digits:
        return value.cast(pa.int64())
    return value


def _is_int(kind: str) -> bool:
    return kind == "int" or kind.startswith(("np.int", "np.uint")) or kind in {"np.longlong", "np.ulonglong"}


def _shown(kind: str | None, value: float | None, text: str | None) -> str | None:
    if kind is None or kind == "null":
        return None
    return text if text is not None else str(decode(kind, value, text))
