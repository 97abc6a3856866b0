"""How rows are shown to people: each on one line, and nothing in them moves a cursor or changes a colour."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["as_html", "as_rich", "as_text", "cell", "printable"]

_CELL_WIDTH: Final = 40


def as_text(names: Sequence[str], rows: Sequence[Sequence[str]], caption: str, total: int) -> str:
    """Return a table in columns, and how many of its ``total`` rows are not shown."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    lines = [f"Result: {caption}"]
    lines += [
        "  ".join(each.ljust(width) for each, width in zip(cells, widths, strict=True)).rstrip()
        for cells in (names, *rows)
    ]
    if total > len(rows):
        lines.append(f"… {total - len(rows):,} more")
    return "\n".join(lines)


def as_html(names: Sequence[str], rows: Sequence[Sequence[str]], caption: str, total: int) -> str:
    """Return a table as HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(each)}</td>" for each in row) + "</tr>" for row in rows)
    return (
        f"<table><caption>{escape(_counted(caption, rows, total))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def as_rich(names: Sequence[str], rows: Sequence[Sequence[str]], caption: str, total: int) -> Any:
    """Return a table as rich draws it."""
    from rich.table import Table
    from rich.text import Text

    table = Table(caption=Text(_counted(caption, rows, total)))
    for name in names:
        table.add_column(Text(name))
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def cell(value: Any) -> str:
    """Return a value as the text of a cell, shortened; nothing for None.

    >>> cell(0.1 + 0.2), cell({"fold": "3"}), cell(None)
    ('0.3', 'fold=3', '')
    """
    if value is None:
        return ""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif hasattr(value, "isoformat"):
        text = value.isoformat(sep=" ") if hasattr(value, "hour") and hasattr(value, "year") else str(value)
    elif isinstance(value, dict):
        text = ", ".join(f"{key}={each}" for key, each in value.items())
    else:
        text = _text_of(value)
    text = printable(text)
    return text if len(text) <= _CELL_WIDTH else f"{text[: _CELL_WIDTH - 1]}…"


def printable(text: str) -> str:
    r"""Return a text on one line, with what would move a cursor or change a colour escaped.

    Ids and texts are anybody's: an escape sequence in one must not reach the terminal.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb c'
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _text_of(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no int of more than 4,300 digits in decimal
        return hex(value) if isinstance(value, int) else f"{type(value).__name__} of {len(value)}"


def _escaped(sign: str) -> str:
    if sign.isprintable():
        return sign
    return " " if sign in "\n\t\r" else sign.encode("unicode_escape").decode("ascii")


def _counted(caption: str, rows: Sequence[Sequence[str]], total: int) -> str:
    return f"{caption}, the first {len(rows)} shown" if total > len(rows) else caption
