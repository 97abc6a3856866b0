"""Rows on standard output: a table for a person, JSON, JSON lines, CSV or Parquet for a program."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from metrics_lake.cli.cells import Logged, csv_cell, json_cell, logged, table_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from metrics_lake.result import Result

__all__ = [
    "FULL_INBOX",
    "Rows",
    "chosen_format",
    "note",
    "note_full_inbox",
    "write",
    "write_report",
    "write_rows",
]

Columns = dict[str, list[Any]]

FULL_INBOX: Final = 500
"""Objects that wait to be compacted; with more of them reads become slow."""
_TABLE_ROWS: Final = 200
_PIECE_ROWS: Final = 16_384
_GAP: Final = 2
_WIDEST: Final = 60
"""The longest cell that is shown whole, ids apart."""
_NARROW: Final = 28
_IDS: Final = frozenset({"resource", "metric", "key", "path", "writer", "origin", "tags", "what", "hint"})
"""What a person copies out of a table, or must read whole."""


@dataclass(frozen=True)
class Rows:
    """Rows to write, in parts, each as often as it is asked for but once.

    Attributes:
        names: The columns.
        parts: Their values, batch by batch; what was logged as ``Logged``.
        arrow: The same rows as Arrow, for Parquet.
        table_names: The columns that a table shows; None = all.
    """

    names: tuple[str, ...]
    parts: Callable[[], Iterable[Columns]]
    arrow: Callable[[], pa.RecordBatchReader]
    table_names: tuple[str, ...] | None = None

    @classmethod
    def of_dicts(
        cls, rows: Sequence[Mapping[str, Any]], names: Sequence[str], shown: Sequence[str] | None = None
    ) -> Rows:
        """Return a few rows that were made here."""

        def arrow() -> pa.RecordBatchReader:
            import pyarrow as pa

            plain = [{name: _arrow_value(row[name]) for name in names} for row in rows]
            return pa.Table.from_pylist(plain).to_reader()

        kept = None if shown is None else tuple(shown)
        return cls(tuple(names), lambda: [{name: [row[name] for row in rows] for name in names}], arrow, kept)

    @classmethod
    def of_result(
        cls, result: Result, *, logged_names: Iterable[str] = (), shown: Sequence[str] | None = None
    ) -> Rows:
        """Return the rows of a result; the columns ``logged_names`` hold what was logged."""
        names = tuple(result.columns)
        exact = set(logged_names)

        def parts() -> Iterator[Columns]:
            yield {
                name: [None if each is None else logged(each) for each in result.values(name)]
                if name in exact
                else result.values(name)
                for name in names
            }

        kept = None if shown is None else tuple(name for name in shown if name in names)
        note_full_inbox(result)
        return cls(names, parts, result.reader, kept)

    @classmethod
    def of_points(
        cls, reader: pa.RecordBatchReader, names: Sequence[str], shown: Sequence[str] | None = None
    ) -> Rows:
        """Return points as a history with ``full=True`` streams them, with the columns ``names``."""

        def parts() -> Iterator[Columns]:
            for batch in _pieces(reader):
                columns = {name: _python(batch.column(name)) for name in batch.schema.names if name in names}
                stored = (batch.column(each).to_pylist() for each in ("kind", "value", "text"))
                columns["value"] = [Logged(*each) for each in zip(*stored, strict=True)]
                yield columns

        def arrow() -> pa.RecordBatchReader:
            import pyarrow as pa

            kept = [name for name in reader.schema.names if name in {*names, "kind", "text"}]
            schema = pa.schema([reader.schema.field(name) for name in kept])
            return pa.RecordBatchReader.from_batches(schema, (batch.select(kept) for batch in reader))

        return cls(tuple(names), parts, arrow, None if shown is None else tuple(shown))

    @classmethod
    def of_reader(cls, reader: pa.RecordBatchReader) -> Rows:
        """Return the rows of a query as they stream; of columns with one name the later ones get a number."""
        names: list[str] = []
        for name in reader.schema.names:
            tries = itertools.chain([name], (f"{name}_{at}" for at in itertools.count(1)))
            names.append(next(each for each in tries if each not in names))

        def parts() -> Iterator[Columns]:
            for batch in _pieces(reader):
                yield dict(zip(names, map(_python, batch.columns), strict=True))

        def arrow() -> pa.RecordBatchReader:
            import pyarrow as pa

            schema = pa.schema(
                [field.with_name(name) for field, name in zip(reader.schema, names, strict=True)]
            )
            batches = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in reader)
            return pa.RecordBatchReader.from_batches(schema, batches)

        return cls(tuple(names), parts, arrow)

    def with_limit(self, limit: int) -> Rows:
        """Return the first rows only."""

        def parts() -> Iterator[Columns]:
            left = limit
            for columns in self.parts():
                count = len(next(iter(columns.values()), ()))
                yield {name: values[:left] for name, values in columns.items()}
                left -= count
                if left <= 0:
                    return

        def arrow() -> pa.RecordBatchReader:
            import pyarrow as pa

            source = self.arrow()

            def batches() -> Iterator[pa.RecordBatch]:
                left = limit
                for batch in source:
                    yield batch.slice(0, left)
                    left -= batch.num_rows
                    if left <= 0:
                        return

            return pa.RecordBatchReader.from_batches(source.schema, batches())

        return replace(self, parts=parts, arrow=arrow)


def chosen_format(asked: str | None) -> str:
    """Return the format: as asked, else a table where a person looks and JSON lines where a program reads."""
    return asked or ("table" if sys.stdout.isatty() else "jsonl")


def note(message: str) -> None:
    """Say something to the person, beside the data."""
    click.echo(message, err=True)


def note_full_inbox(result: Result) -> None:
    """Say why a read was slow where many objects wait: commands compact nothing on the side."""
    waiting = 0 if result.snapshot is None else len(result.snapshot.inbox)
    if waiting > FULL_INBOX:
        note(f"{waiting:,} objects wait to be compacted, which makes reads slower: metrics-lake compact")


def write_rows(rows: Rows, form: str | None, limit: int | None = None) -> int:
    """Write rows to standard output; return how many.

    Args:
        rows: What to write.
        form: As the user asked for it.
        limit: Only so many; None: all, and 200 in a table; 0: all in a table too.

    Raises:
        UsageError: Parquet would go to a terminal.
    """
    chosen = chosen_format(form)
    if chosen == "table":
        return _write_table(rows, _TABLE_ROWS if limit is None else limit, is_limit_asked=limit is not None)
    if chosen == "parquet" and sys.stdout.isatty():
        raise click.UsageError("Parquet is no text for a terminal: redirect it to a file")
    with _standard_output() as stream:
        return write(rows.with_limit(limit) if limit else rows, chosen, stream)


def write_report(row: Mapping[str, Any], form: str | None, sentence: str) -> None:
    """Write what an action did: a sentence where a table would stand, else one row."""
    if chosen_format(form) == "table":
        click.echo(sentence)
    else:
        write_rows(Rows.of_dicts([row], list(row)), form)


def write(rows: Rows, form: str, stream: BinaryIO, progress: Callable[[int], object] = lambda _: None) -> int:
    """Write rows as ``json``, ``jsonl``, ``csv`` or ``parquet``; return how many.

    Args:
        rows: What to write.
        form: The format.
        stream: Where.
        progress: Is told how many rows were written so far.
    """
    if form == "parquet":
        return _write_parquet(rows, stream, progress)
    count = 0
    if form == "csv":
        stream.write(_csv_lines([rows.names]))
    opening = b"[\n " if form == "json" else b""
    for columns in rows.parts():
        values = [columns[name] for name in rows.names]
        size = len(values[0]) if values else 0
        if not size:
            continue
        if form == "csv":
            text = _csv_lines(zip(*(_texts(each, csv_cell) for each in values), strict=True))
        else:
            keys = [json_cell(name) + ":" for name in rows.names]
            cells = zip(*(_texts(each, json_cell) for each in values), strict=True)
            lines = ("{" + ",".join(map(str.__add__, keys, row)) + "}" for row in cells)
            text = (",\n " if form == "json" else "\n").join(lines).encode()
            text = opening + text if form == "json" else text + b"\n"
            opening = b",\n "
        stream.write(text)
        count += size
        progress(count)
    if form == "json":
        stream.write(b"\n]\n" if count else b"[]\n")
    return count


def _texts(values: Sequence[Any], cell: Callable[[Any], str]) -> list[str]:
    """Return the cells of a column: what repeats, as ids do, is written once."""
    known: dict[Any, str] = {}
    texts: list[str] = []
    empty = cell(None)
    for value in values:
        kind = type(value)
        if value is None:
            text = empty
        elif kind is Logged:
            number = value.value
            is_plain = value.kind == "float" and number is not None and number - number == 0.0
            text = repr(number) if is_plain else cell(value)
        elif kind is str or kind is dt.datetime:  # numbers that are equal may have several texts
            found = known.get(value)
            text = found if found is not None else known.setdefault(value, cell(value))
        else:
            text = cell(value)
        texts.append(text)
    return texts


def _pieces(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Yield batches of few rows: as Python objects they take a hundred times the room."""
    for batch in reader:
        for start in range(0, batch.num_rows, _PIECE_ROWS):
            yield batch.slice(start, _PIECE_ROWS)


def _csv_lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _write_parquet(rows: Rows, stream: BinaryIO, progress: Callable[[int], object]) -> int:
    import pyarrow.parquet as pq

    reader = rows.arrow()
    count = 0
    with pq.ParquetWriter(stream, reader.schema, compression="zstd") as file:
        for batch in reader:
            file.write_batch(batch)
            count += batch.num_rows
            progress(count)
    return count


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    """Yield standard output for bytes: data are UTF-8 whatever the terminal's encoding is."""
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def _python(column: pa.Array[Any]) -> list[Any]:
    found: list[Any] = column.to_pylist()
    if str(column.type).startswith("map<"):
        return [None if pairs is None else dict(pairs) for pairs in found]
    return found


def _arrow_value(value: Any) -> Any:
    """Return a value that Arrow columns of one type take: of what was logged its text form."""
    return csv_cell(value) if isinstance(value, Logged) else value


# ---- tables -----------------------------------------------------------------------------------------------


def _write_table(rows: Rows, limit: int, *, is_limit_asked: bool) -> int:
    names = rows.names if rows.table_names is None else rows.table_names
    # One more than shown tells whether there are more.
    parts = iter((rows.with_limit(limit + 1) if limit else rows).parts())
    columns: Columns = {name: [] for name in names}
    for part in parts:
        for name in names:
            columns[name] += part[name]
    count = len(columns[names[0]]) if names else 0
    if not count:
        return 0
    shown = min(count, limit) if limit else count
    cells = {name: list(map(table_cell, values[:shown])) for name, values in columns.items()}
    # What is empty in every row says nothing; the first column says which row it is.
    cells = {name: texts for at, (name, texts) in enumerate(cells.items()) if at == 0 or any(texts)}
    is_number = {name: all(map(_is_number, columns[name][:shown])) for name in cells}
    _draw(cells, is_number)
    if shown < count and not is_limit_asked:
        note(f"The first {shown:,} rows; --limit 0 shows all, --format jsonl or csv gives them to a program.")
    return count


def _is_number(value: Any) -> bool:
    if isinstance(value, Logged):
        return value.value is not None
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _draw(cells: dict[str, list[str]], is_number: dict[str, bool]) -> None:
    """Print columns side by side; those that do not fit follow below, the first one repeated."""
    from rich.cells import cell_len, set_cell_size
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character shows a ?
    # What is no terminal is as wide as its widest line.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 1_000_000)
    first = next(iter(cells))
    room = console.width - _GAP - max(map(cell_len, (first, *cells[first])))
    widest = max(_NARROW, min(_WIDEST, room))
    for name, texts in cells.items():
        if name not in _IDS:
            cells[name] = [
                text if cell_len(text) <= widest else f"{set_cell_size(text, widest - 1)}…" for text in texts
            ]
    widths = {name: max(map(cell_len, (name, *values))) for name, values in cells.items()}
    blocks = _blocks(widths, console.width)
    for block in blocks:
        if block is not blocks[0]:
            sys.stdout.write("\n")
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
        for name in block:
            table.add_column(
                Text(table_cell(name)),
                justify="right" if is_number[name] else "left",
                no_wrap=name not in _IDS,
                overflow="fold" if name in _IDS else "ellipsis",
            )
        for row in zip(*(cells[name] for name in block), strict=True):
            table.add_row(*map(Text, row))
        with console.capture() as drawn:
            console.print(table)
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in drawn.get().splitlines()))
    sys.stdout.flush()


def _blocks(widths: Mapping[str, int], width: int) -> list[list[str]]:
    """Return which columns stand side by side."""
    first, *others = widths
    blocks = [[first]]
    left = width - widths[first]
    for name in others:
        # An id is never cut: it takes several lines where there is some room for it.
        need = min(widths[name], _NARROW) if name in _IDS else widths[name]
        if _GAP + need > left and len(blocks[-1]) > 1:
            blocks.append([first])
            left = width - widths[first]
        blocks[-1].append(name)
        left -= _GAP + widths[name]
    return blocks
