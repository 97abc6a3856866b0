"""Arrow tables as HTML: every cell is text, whatever it holds."""

from __future__ import annotations

import math
from datetime import date, datetime
from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["html_table"]

_MAX_TEXT: Final = 300


def html_table(table: pa.Table, *, id: str, caption: str, is_sortable: bool = True) -> str:
    """Return a table as HTML.

    Args:
        table: What it shows.
        id: Of the element.
        caption: For those who cannot see it.
        is_sortable: Whether the page's script makes its headers sort.
    """
    are_numbers = [_is_number(field.type) for field in table.schema]
    heads = "".join(
        f'<th scope="col"{_class("number" if is_number else "")}>{escape(name)}</th>'
        for name, is_number in zip(table.column_names, are_numbers, strict=True)
    )
    columns = [
        [_cell(name, value) for value in table.column(at).to_pylist()]
        for at, name in enumerate(table.column_names)
    ]
    rows = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*columns, strict=True))
    classes = _class("sortable" if is_sortable else "")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table id="{id}"{classes}><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(name: str, value: Any) -> str:
    """Return one cell: ``data-v`` is what it sorts by, where that is not its text."""
    if value is None:
        return "<td></td>"
    if isinstance(value, bool):
        return f"<td>{str(value).lower()}</td>"
    if isinstance(value, int):
        return f'<td class="number" data-v="{value}">{value:,}</td>' if abs(value) >= 1000 else (
            f'<td class="number">{value}</td>'
        )  # fmt: skip
    if isinstance(value, float):
        text = f"{value:.6g}"
        if math.isinf(value):
            return f'<td class="number" data-v="{"-" if value < 0 else ""}Infinity">{text}</td>'
        exact = "" if math.isnan(value) or float(text) == value else f' data-v="{value!r}" title="{value!r}"'
        return f'<td class="number"{exact}>{text}</td>'
    if isinstance(value, datetime):
        return f"<td>{value.strftime('%Y-%m-%d %H:%M:%S UTC')}</td>"
    if isinstance(value, date):
        return f"<td>{value.isoformat()}</td>"
    text = _text(value)
    shown = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"
    return f'<td class="id">{escape(shown)}</td>' if name == "resource" else f"<td>{escape(shown)}</td>"


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, tuple) and len(each) == 2 for each in value):
        return ", ".join(f"{key}={each}" for key, each in value)
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(value))
