"""The list columns of a state table as frames with a row for each element, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.compute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["from_lists", "to_lists"]

pc: Any = pyarrow.compute  # pyarrow-stubs knows no lists of structs


def to_lists(rows: pl.DataFrame, gids: pl.Series, order: Sequence[pl.Expr], kind: Any) -> pa.Array[Any]:
    """Return one list of structs for each row of a table; an id without rows has an empty one.

    Args:
        rows: ``gid``, which is one of the table's, and the fields of the structs.
        gids: The ids of the table's rows, in their order.
        order: What sorts the rows by ``gid`` and then by the fields that order each list, NULL first.
        kind: The type of the lists.
    """
    if rows.is_empty():
        none: pa.Array[Any] = pa.array([[]] * len(gids), kind)
        return none
    if not gids.is_sorted():
        places = gids.to_frame().with_row_index("place").cast({"place": pl.Int64})
        rows = rows.join(places, on="gid").drop("gid").rename({"place": "gid"})
        gids = pl.int_range(len(gids), dtype=pl.Int64, eager=True)
    rows = rows.sort(order, nulls_last=False)
    starts = [*(rows["gid"].search_sorted(gids) if len(gids) > 1 else [0]), rows.height]
    plain = rows.to_arrow()
    structs: Any = pa.StructArray
    fields = list(kind.value_type.fields)
    values = structs.from_arrays(
        [plain.column(field.name).combine_chunks().cast(field.type) for field in fields], fields=fields
    )
    lists: Any = pa.ListArray
    made: pa.Array[Any] = lists.from_arrays(pa.array(starts, pa.int32()), values, type=kind)
    return made


def from_lists(column: Any, schema: Mapping[str, Any]) -> pl.DataFrame:
    """Return a row for each struct in a column of lists: ``gid``, the list's row, and its fields.

    Args:
        column: Lists of structs; NULL is an empty list.
        schema: ``gid`` and the fields; those that the structs lack are NULL.
    """
    lists = column.combine_chunks()
    values = pc.list_flatten(lists)
    if not len(values):
        return pl.DataFrame(schema=schema)
    names = [field.name for field in values.type.fields]
    fields = dict(zip(names, values.flatten(), strict=True))
    kept = {name: fields[name] for name in schema if name in fields}
    table = pa.table({"gid": pc.list_parent_indices(lists), **kept})
    if values.null_count:
        table = table.filter(values.is_valid())
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 -- from_arrow of a table: for the type checker
    return frame
