"""``lake.inspect``: what is in the lake, and whether all of it is as it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metrics_lake.commits import TableLog
from metrics_lake.errors import InvalidInputError
from metrics_lake.inspection.listing import file_rows, gap_rows, version_rows, writer_rows
from metrics_lake.inspection.quarantining import quarantine_object
from metrics_lake.inspection.verifying import verify_lake
from metrics_lake.layout import inbox_prefix, table_prefix
from metrics_lake.progress import progress_bar
from metrics_lake.result import Result
from metrics_lake.schema import METRICS, TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from metrics_lake.commits import Snapshot
    from metrics_lake.inspection.report import Quarantine, Report
    from metrics_lake.lakefile import LakeFile
    from metrics_lake.progress import Progress
    from metrics_lake.reader import Reader
    from metrics_lake.storage import Storage

__all__ = ["Inspection"]


class Inspection:
    """Looks at one lake; nothing but ``quarantine`` ever changes it, and that only when told to.

    Args:
        storage: The lake's objects.
        reader: Reads them.
        lake: What ``_lake.json`` says; None = it is read when it is needed.
        check_writable: Raises where this handle may not write.
    """

    def __init__(
        self,
        storage: Storage,
        reader: Reader,
        lake: LakeFile | None = None,
        check_writable: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_writable = check_writable
        self._storage = storage
        self._reader = reader
        self._lake = lake

    def files(self, table: str = METRICS) -> Result:
        """Return every object that holds rows which count: what any engine reads for a fresh, exact answer.

        Points that this process has logged and not published are not in them: ``flush()`` first. The paths
        are right until a vacuum deletes what a later commit replaced: a week for data files, ten minutes for
        inbox objects that were compacted since.

        Where ``is_whole`` is true everywhere, a plain read of all paths is exact:
        ``duckdb.read_parquet(lake.inspect.files().values("path"), hive_partitioning=False)``, Polars'
        ``scan_parquet``, Daft's ``read_parquet``, Spark's ``read.parquet`` alike. It nearly always is. An
        inbox object of which only some rows count (two deliveries of the same rows that were cut at different
        places, of which each row counts once) has ``is_whole`` false and a SQL ``predicate``: read it apart,
        with that filter. ``maintenance.compact()`` leaves none of them.

        Args:
            table: The table.

        Returns:
            A row an object: ``path`` (absolute; a url on object stores), ``key`` (under the lake's url),
            ``kind`` (``table`` or ``inbox``), ``size_bytes``, ``points`` (the rows that count; NULL where the
            log of another engine does not say), ``is_whole``, ``predicate`` (NULL = all rows count),
            ``month`` (of a data file), ``date``, ``writer``, ``first_seq``, ``last_seq``, ``keep`` (of an
            inbox object: the day of publishing, whose rows, which there are, and the inclusive runs that
            count), ``resource_min``, ``resource_max`` (bounds from the log, which may be wider than the rows;
            NULL = unknown), ``is_ours`` (false: another engine wrote it), ``digest`` (hexadecimal, of a data
            file of ours), ``modified``.

        Raises:
            InvalidInputError: There is no such table.
            StorageError: The store failed.

        >>> from metrics_lake import MetricsLake
        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> _ = lake.flush()
        >>> lake.inspect.files().values("points")
        [3]
        """
        _check_table(table)
        return self._of_snapshot(table, lambda snapshot: file_rows(self._storage, snapshot))

    def snapshots(self, table: str = METRICS) -> Result:
        """Return the versions of a table that its log still has, ascending.

        Args:
            table: The table.

        Returns:
            A row a version: ``version``, ``timestamp`` (by the committer's clock), ``operation``, ``engine``,
            ``files_added``, ``files_removed``, ``points_added``, ``points_removed`` (NULL where the log does
            not say), ``bytes_added``, ``writers`` (of which it took rows over), ``data_change``
            (false: the same rows in other files), ``has_checkpoint``.

        Raises:
            InvalidInputError: There is no such table.
            CorruptObjectError: A version is damaged.
            StorageError: The store failed.
        """
        _check_table(table)
        log = TableLog(self._storage, table)
        return Result(lambda: version_rows(self._storage, log))

    def writers(self, table: str = METRICS) -> Result:
        """Return the writers that the inbox and the log know, by id, which is the order of their birth.

        The format keeps no names of hosts. Writers of bulk commits leave no trace but their rows.

        Args:
            table: The table.

        Returns:
            A row a writer: ``writer``, ``started`` (from its id; NULL for a bulk call with a key),
            ``next_seq`` (the number behind the last row that counts), ``consumed_to`` (up to which all rows
            are in the table; -1 = none), ``points_in_table`` (taken over by the table, rows deleted since
            among them), ``points_in_inbox`` (that count), ``objects`` (of the inbox, consumed ones too),
            ``missing`` (rows in gaps), ``is_ended`` (it will never publish again), ``last_object`` (when its
            last object that is still in the inbox was written, by the store's clock).

        Raises:
            InvalidInputError: There is no such table.
            StorageError: The store failed.
        """
        _check_table(table)
        return self._of_snapshot(table, writer_rows)

    def gaps(self, table: str = METRICS) -> Result:
        """Return the rows that were published, or should have been, and that no object holds.

        Args:
            table: The table.

        Returns:
            A row a gap: ``writer``, ``first_seq``, ``last_seq``, ``points``, ``since`` (when the object
            behind it appeared; NULL where the inbox has none any more), ``is_skipped`` (reads go on behind
            it; false: they stop in front of it until it is 15 minutes old), ``is_settled`` (a commit went on
            behind it). An object that turns up late fills its gap in any case.

        Raises:
            InvalidInputError: There is no such table.
            StorageError: The store failed.
        """
        _check_table(table)
        return self._of_snapshot(table, gap_rows)

    def verify(self, table: str | None = None, *, progress: bool | Progress | None = None) -> Report:
        """Read everything and name what is wrong; nothing is changed.

        Read are the lake's file, every version and checkpoint of the log, every live data file with its
        sidecar, every object of the inbox, and files that no version names; not read are files that the log
        removed and vacuum has not deleted yet. Checked are names, footers, schemas, checksums of pages,
        digests of data files, order, numbers of rows, bounds (of the log and of each row group), Bloom
        filters, tags, kinds, sidecars, checkpoints against the versions in front of them, watermarks, gaps,
        and that no row is there twice. Memory holds a few objects at a time; for more than 4 M rows, 8 bytes
        a row go to temporary files.

        The lake may be written and compacted meanwhile: what others take away while it is read is not held
        against it.

        Args:
            table: One table; None: all that the lake has.
            progress: A bar where somebody can see it (None), always, never, or a function of the bytes done
                and all bytes.

        Raises:
            InvalidInputError: There is no such table.
            StorageError: The store failed.

        >>> from metrics_lake import MetricsLake
        >>> lake = MetricsLake(tmp / "lake")
        >>> lake.log_series("digits/run-1", "loss", [0.9, 0.5, 0.3])
        >>> _ = lake.maintenance.compact()
        >>> report = lake.inspect.verify()
        >>> report.is_clean, report.points
        (True, 3)
        """
        with progress_bar("verifying", progress) as report:
            return verify_lake(self._storage, self._lake, self._tables(table), report)

    def quarantine(self, key: str, *, dry_run: bool = True) -> Quarantine:
        """Move one damaged object out of the way, so that everything else can be read and compacted.

        Its bytes are kept under ``_quarantine/``. An inbox object leaves a gap, which readers wait for as for
        any other, and which it fills again if it is mended and put back under its name. A data file is
        removed by a commit; the rows of it that cannot be restored are lost. A file that the log names and
        the store does not have is removed likewise.

        Args:
            key: The object's key, as a finding of ``verify`` names it.
            dry_run: Only say what would be moved: the default.

        Raises:
            NotFoundError: There is no such object.
            InvalidInputError: Nothing is wrong with it, or it is neither an inbox object nor a data file.
            StorageError: The store failed; repeating the call is safe.
        """
        if not dry_run:
            self._check_writable()
        lake_id = None if self._lake is None else self._lake.lake_id
        return quarantine_object(self._storage, key, lake_id=lake_id, dry_run=dry_run)

    def _of_snapshot(self, table: str, rows: Callable[[Snapshot], pa.Table]) -> Result:
        snapshot = self._reader.snapshot(table)
        return Result(lambda: rows(snapshot), snapshot=snapshot)

    def _tables(self, table: str | None) -> list[str]:
        if table is not None:
            return [_check_table(table)]
        return [
            name
            for name in TABLES
            if name == METRICS
            or self._storage.list(inbox_prefix(name))
            or self._storage.list(table_prefix(name))
        ]


def _check_table(table: str) -> str:
    if table not in TABLES:
        raise InvalidInputError(
            f"there is no table {table!r}.", hint=f"Tables are {', '.join(TABLES)}.", argument="table"
        )
    return table
