"""What a query gives back: its rows, computed at first access, in whatever form is wanted.

>>> import pyarrow as pa
>>> rows = pa.table({"resource": ["a", "a"], "step": [0, 1], "value": [0.5, 2.0], "kind": ["float", "int"]})
>>> result = Result(lambda: rows, hidden=("kind", "text"))
>>> result.values(), result.columns
([0.5, 2], ['resource', 'step', 'value'])
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, Literal

from metrics_lake.charts import MAX_POINTS, counted
from metrics_lake.errors import InvalidInputError, NotFoundError
from metrics_lake.points import MADE_COLUMNS
from metrics_lake.printing import as_html, as_rich, as_text, cell, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pandas as pd  # type: ignore[import-untyped]  # pandas-stubs is not asked of developers
    import polars as pl
    import pyarrow as pa

    from metrics_lake.charts import Chart, Drawn

__all__ = ["Exact", "Result"]

_TOTAL: Final = "total_points"
_REPR_ROWS: Final = 10
_HTML_ROWS: Final = 20


@dataclass(frozen=True, slots=True)
class Exact:
    """A table of which some columns show a view of values whose exact form is kept beside it.

    Attributes:
        table: What users see as columns.
        values: For these columns a table ``kind value text``, a row a row, by which values are decoded;
            where ``kind`` is NULL there is no value.
    """

    table: pa.Table
    values: Mapping[str, pa.Table]


class Result:
    """Rows of a query over one snapshot; they are computed once, when they are first looked at.

    ``value`` is the numeric view in everything that gives columns (``arrow``, ``reader``, ``pl``, ``df``, the
    Arrow C stream): a double, NULL where the value is no number. What gives Python objects (``rows``,
    ``one``, ``values``, iteration) gives the value as it was logged, with its exact type: the int ``3``, the
    str ``"relu"``, the list that a confusion matrix is.

    A result keeps its Arrow table; ``reader`` on a result that nobody looked at yet streams and keeps
    nothing. Threads may share it. It does not pickle: send ``result.arrow()``.

    Args:
        run: Computes the whole table, as it is or with the exact values of some columns.
        stream: Computes it batch by batch; None = through ``run``.
        hidden: Columns that ``run`` returns beside those that users see: ``kind`` and ``text``, by which
            values are decoded; ``total_points``, the same number in each row.
        snapshot: What the rows were read from.
        notes: What was done to the points, such as ``downsample`` and ``smooth``.
        drawn: Gives at most so many points of the same snapshot for a chart along an axis; None: the rows
            themselves are drawn.
        is_plain: True where a column called ``value`` beside one called ``kind`` means nothing.
    """

    __slots__ = (
        "_drawn",
        "_exact",
        "_hidden",
        "_is_plain",
        "_lock",
        "_notes",
        "_run",
        "_stream",
        "_table",
        "snapshot",
    )

    def __init__(
        self,
        run: Callable[[], pa.Table | Exact],
        *,
        stream: Callable[[], pa.RecordBatchReader] | None = None,
        hidden: tuple[str, ...] = (),
        snapshot: Any = None,
        notes: Mapping[str, Any] | None = None,
        drawn: Callable[[str | None, int], Drawn] | None = None,
        is_plain: bool = False,
    ) -> None:
        self._run = run
        self._drawn = drawn
        self._exact: Mapping[str, pa.Table] = {}
        self._is_plain = is_plain
        self._stream = stream
        self._hidden = frozenset(hidden)
        self._table: pa.Table | None = None
        self._lock = Lock()
        self.snapshot = snapshot
        self._notes = dict(notes or {})

    # ---- columns ------------------------------------------------------------------------------------------

    def arrow(self) -> pa.Table:
        """Return the rows as an Arrow table.

        Raises:
            MetricsLakeError: The query failed; ``SnapshotExpired`` where its files are gone meanwhile.
        """
        return self._visible(self._whole())

    def points(self) -> pa.Table:
        """Return the rows as ``append`` takes them: values exactly, and nothing that it gives points anew.

        Raises:
            MetricsLakeError: As for ``arrow``.
        """
        table = self._whole()
        return table.select([name for name in table.column_names if name not in MADE_COLUMNS])

    def reader(self) -> pa.RecordBatchReader:
        """Return the rows as a reader of Arrow record batches.

        If nobody looked at the result yet, the rows are computed while they are read, in bounded memory, and
        not kept.

        Raises:
            MetricsLakeError: As for ``arrow``, here or while the reader is read.
        """
        import pyarrow as pa

        if self._table is not None or self._stream is None:
            return self.arrow().to_reader()
        source = self._stream()
        names = [name for name in source.schema.names if name not in self._hidden]
        if len(names) == len(source.schema.names):
            return source
        schema = pa.schema([source.schema.field(name) for name in names])
        return pa.RecordBatchReader.from_batches(schema, (batch.select(names) for batch in source))

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        stream: Any = self.reader()
        return stream.__arrow_c_stream__(requested_schema)

    def pl(self) -> pl.DataFrame:
        """Return the rows as a Polars data frame.

        Raises:
            MetricsLakeError: As for ``arrow``.
        """
        import polars as pl

        frame = pl.from_arrow(self.arrow())
        if not isinstance(frame, pl.DataFrame):
            raise TypeError("a table became a series")
        return frame

    def df(self) -> pd.DataFrame:
        """Return the rows as a pandas data frame; 64-bit ints that may be NULL become pandas' ``Int64``.

        Raises:
            InvalidInputError: pandas is not installed.
            MetricsLakeError: As for ``arrow``.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise InvalidInputError(
                "pandas is not installed.", hint='pip install "metrics-lake[pandas]", or use .pl().'
            ) from error
        import pyarrow as pa

        def nullable(kind: pa.DataType) -> Any:
            return pd.Int64Dtype() if kind == pa.int64() else None

        frame: pd.DataFrame = self.arrow().to_pandas(types_mapper=nullable)
        return frame

    # ---- Python objects -----------------------------------------------------------------------------------

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dicts, ``value`` as it was logged and ``tags`` as a dict or None.

        Raises:
            UnsupportedFormatError: A value is of a kind that a newer version wrote; ``arrow`` gives its text.
            MetricsLakeError: As for ``arrow``.
        """
        table = self._whole()
        names = self._names(table)
        columns = [self._python(table, name) for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def one(self) -> dict[str, Any]:
        """Return the only row as a dict, as ``rows`` does.

        Raises:
            NotFoundError: There is none.
            InvalidInputError: There are several.
        """
        count = len(self)
        if count == 0:
            raise NotFoundError("The result has no rows.")
        if count > 1:
            raise InvalidInputError(
                f"The result has {count:,} rows.", hint="Narrow the query, or take .rows().", rows=count
            )
        return self.rows()[0]

    def values(self, column: str | None = None) -> list[Any]:
        """Return one column as a list of Python objects.

        Args:
            column: Its name; None is ``value``, as it was logged, or the only column there is.

        Raises:
            InvalidInputError: There is no such column, or several and none is called ``value``.
        """
        table = self._whole()
        names = self._names(table)
        if column is None and ("value" in names or len(names) == 1):
            column = "value" if "value" in names else names[0]
        if column not in names:
            what = "no column is called 'value'" if column is None else f"there is no column {column!r}"
            raise InvalidInputError(f"Of this result {what}.", hint=f"There are: {', '.join(names)}.")
        return self._python(table, column)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return self._names(self._whole())

    @property
    def notes(self) -> dict[str, Any]:
        """What was done to the points: ``smooth``, ``downsample`` and ``total_points`` before thinning."""
        self._whole()
        return dict(self._notes)

    def __len__(self) -> int:
        count: int = self._whole().num_rows
        return count

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows())

    def plot(
        self,
        x: str | None = None,
        *,
        y: str | None = None,
        color: str | None = None,
        log: bool = False,
        title: str | None = None,
        width: int | Literal["container"] = 640,
        height: int = 300,
        dark: bool = False,
        max_points: int = MAX_POINTS,
    ) -> Chart:
        """Return an Altair chart of the rows, as their columns suggest.

        * ``history``: curves, a panel a metric. Repeated steps show their newest point; long series are
          thinned out (M4: first, last, least and greatest of each interval), which the subtitle says.
        * ``best``: bars.
        * ``compare``: parallel axes, or with ``x`` and ``y`` one column against another.
        * ``prediction_metrics``: lines over windows, or over jobs, by segment, with intervals; those of one
          job below one another; the confusion matrix if it is all there is.
        * ``prediction_curves``: the curve, the reliability diagram or the distribution.
        * ``sql``: a point a row: ``x`` and ``y``, else columns of these names, else the first column and the
          last one of numbers.

        What has no place in the picture is counted in the subtitle.

        Args:
            x: Of a history ``"step"``, ``"relative"`` (time since the resource's first point in the picture)
                or ``"timestamp"``; None: the step where there are any. Otherwise a column.
            y: A column of numbers; not for a history.
            color: Of a history what lines of one colour share: ``"resource"``, ``"metric"`` or a tag's name;
                otherwise a column.
            log: Draw y on a logarithmic axis.
            title: Above the chart; None: the metric.
            width: In pixels, or ``"container"``: as wide as the page gives room.
            height: Of one panel, in pixels.
            dark: For a dark background.
            max_points: How many points a history draws at most, over all series.

        Raises:
            InvalidInputError: Altair is not installed, an argument is wrong, or no columns can be drawn.
            MetricsLakeError: As for ``arrow``.

        >>> import pyarrow as pa
        >>> rows = pa.table({"hour": [1, 2, 3], "loss": [0.9, 0.5, 0.25]})
        >>> Result(lambda: rows).plot(x="hour", y="loss").title.subtitle
        ['3 rows']
        """
        from metrics_lake import charts

        look: dict[str, Any] = {"title": title, "width": width, "height": height, "dark": dark}
        if self._drawn is None:
            return charts.plot(self.arrow(), x, y=y, color=color, log=log, **look)
        if y is not None:
            raise InvalidInputError("a history is drawn along x; its y is the value.", argument="y")
        return charts.curves(self._drawn(x, max_points), color=color, log=log, **look)

    # ---- what one sees ------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return as_text(*self._head(_REPR_ROWS))

    def _repr_html_(self) -> str:
        return as_html(*self._head(_HTML_ROWS))

    def __rich__(self) -> Any:
        return as_rich(*self._head(_HTML_ROWS))

    def __reduce__(self) -> Any:
        raise InvalidInputError(
            "A Result holds a query over this process's lake and does not pickle.",
            hint="Send result.arrow(), or result.rows().",
        )

    # -------------------------------------------------------------------------------------------------------

    def _whole(self) -> pa.Table:
        with self._lock:
            if self._table is None:
                answer = self._run()
                if isinstance(answer, Exact):
                    table, self._exact = answer.table, answer.values
                else:
                    table = answer
                if _TOTAL in self._hidden and _TOTAL in table.column_names:
                    self._notes[_TOTAL] = table.column(_TOTAL)[0].as_py() if table.num_rows else 0
                    table = table.drop_columns([_TOTAL])
                # Where all values are floats the numeric view says everything.
                if "kind" in self._hidden and "kind" in table.column_names and _all_floats(table):
                    table = self._visible(table)
                self._table = table
            return self._table

    def _names(self, table: pa.Table) -> list[str]:
        return [name for name in table.column_names if name not in self._hidden]

    def _visible(self, table: pa.Table) -> pa.Table:
        return table.select(self._names(table))

    def _python(self, table: pa.Table, name: str) -> list[Any]:
        if name in self._exact:
            return _decoded(self._exact[name].slice(0, table.num_rows))
        if name == "value" and "kind" in table.column_names and not self._is_plain:
            return _decoded(table)
        column = table.column(name)
        if str(column.type).startswith("map<"):
            return [None if pairs is None else dict(pairs) for pairs in column.to_pylist()]
        found: list[Any] = column.to_pylist()
        # DuckDB's sum of integers is a DECIMAL(38, 0) in Arrow.
        if str(column.type).startswith("decimal128") and column.type.scale == 0:
            return [None if each is None else int(each) for each in found]
        return found

    def _head(self, limit: int) -> tuple[list[str], list[list[str]], str, int]:
        """Return the columns' names, the first rows as texts, the caption, and how many rows there are."""
        table = self._whole()
        names = self._names(table)
        head = table.slice(0, limit)
        columns = [list(map(cell, self._shown(head, name))) for name in names]
        shown = [printable(name) for name in names]  # of a run table these are metrics' ids
        notes = [
            f"thinned out from {value:,}" if name == _TOTAL else f"{name}={value}"
            for name, value in self._notes.items()
        ]
        caption = counted(table.num_rows, "row") + (f" ({', '.join(notes)})" if notes else "")
        return shown, [list(row) for row in zip(*columns, strict=True)], caption, table.num_rows

    def _shown(self, head: pa.Table, name: str) -> list[Any]:
        from metrics_lake.errors import FormatError

        try:
            return self._python(head, name)
        except FormatError:  # one value of a newer kind must not hide all others
            texts: list[Any] = head.column("text" if "text" in head.column_names else name).to_pylist()
            return texts


def _all_floats(table: pa.Table) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    is_float = pc.equal(table.column("kind"), pa.scalar("float"))
    return pc.all(is_float).as_py() is not False


def _decoded(table: pa.Table) -> list[Any]:
    from metrics_lake.values import decode_columns

    names = table.column_names
    # No point is there where there is no kind; None is what is shown.
    kind: list[Any] = [each or "null" for each in table.column("kind").to_pylist()]
    text = table.column("text").to_pylist() if "text" in names else [None] * table.num_rows
    return decode_columns(kind, table.column("value").to_pylist(), text)
