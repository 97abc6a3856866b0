"""What an inspection found: findings, each about one thing, and the report that holds them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from metrics_lake.result import Result

__all__ = ["RESTORE", "Finding", "Findings", "Quarantine", "Report", "Severity"]

Severity = Literal["error", "warning", "note"]

RESTORE: Final = "Restore this object from a backup, or move it away with inspect.quarantine(key)."

_SEVERITIES: Final = ("error", "warning", "note")
_MOST_OF_A_CODE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: ``"error"``: rows are lost or wrong, or will be. ``"warning"``: something is amiss and every
            row is still read right. ``"note"``: worth knowing.
        code: What kind of thing, from an append-only list: ``lake_file name footer schema checksum digest
            size order count stats statistics bloom tags kind null writer month sidecar log checkpoint
            watermark gap missing orphan duplicate unprotected unknown``.
        table: The table; None for what belongs to the whole lake.
        key: The object under the lake's url; None where none is to blame, as for a gap.
        what: What is wrong.
        hint: What to do; ``""`` where nothing is to be done.
    """

    severity: Severity
    code: str
    table: str | None
    key: str | None
    what: str
    hint: str

    def __str__(self) -> str:
        where = f"{self.key}: " if self.key is not None else ""
        return f"{self.severity} [{self.code}] {where}{self.what} {self.hint}".rstrip()


@dataclass(frozen=True, slots=True)
class Report:
    """What a verification read and what it found.

    Attributes:
        findings: Errors first, then warnings, then notes.
        points: The rows that count and were read.
        objects: The objects that were read.
        size_bytes: Their size.
        seconds: How long it took.
    """

    findings: tuple[Finding, ...]
    points: int
    objects: int
    size_bytes: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether there is no error: every acknowledged row that is not in a known gap reads right."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return tuple(each for each in self.findings if each.severity == "error")

    def result(self) -> Result:
        """Return the findings as rows: ``severity code table key what hint``, all text."""
        from metrics_lake.result import Result

        return Result(self._table)

    def _table(self) -> pa.Table:
        import pyarrow as pa

        names = ("severity", "code", "table", "key", "what", "hint")
        return pa.table(
            {name: pa.array([getattr(each, name) for each in self.findings], pa.string()) for name in names}
        )

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        counts = Counter(each.severity for each in self.findings)
        found = ", ".join(f"{counts[name]:,} {name}s" for name in _SEVERITIES if counts[name])
        head = (
            f"{self.points:,} points in {self.objects:,} objects ({self.size_bytes:,} bytes) read in "
            f"{self.seconds:,.1f} s: {found or 'nothing to report'}"
        )
        return "\n".join([head, *map(str, self.findings)])


class Findings:
    """Collects findings; of one code no more than a thousand, so that memory stays bounded."""

    def __init__(self) -> None:
        self._found: list[Finding] = []
        self._counts: Counter[tuple[str | None, str]] = Counter()

    def __len__(self) -> int:
        return len(self._found)

    def add(
        self,
        severity: Severity,
        code: str,
        what: str,
        *,
        table: str | None = None,
        key: str | None = None,
        hint: str = "",
    ) -> None:
        """Keep a finding."""
        self._counts[table, code] += 1
        if self._counts[table, code] <= _MOST_OF_A_CODE:
            self._found.append(Finding(severity, code, table, key, what, hint))

    def errors(self) -> list[Finding]:
        """Return the errors so far."""
        return [each for each in self._found if each.severity == "error"]

    def sorted(self) -> tuple[Finding, ...]:
        """Return everything that was found, errors first, each severity in the order found."""
        more = [
            Finding("error", code, table, None, f"There are {count - _MOST_OF_A_CODE:,} more of these.", "")
            for (table, code), count in self._counts.items()
            if count > _MOST_OF_A_CODE
        ]
        return tuple(sorted([*self._found, *more], key=lambda each: _SEVERITIES.index(each.severity)))


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What a quarantine moved, or would move.

    Attributes:
        key: The object.
        table: Its table.
        kind: ``"inbox"`` or ``"table"``.
        moved_to: Where its bytes are kept; None where the object itself is missing.
        points: The rows that counted and that readers no longer see; None where nobody knows how many.
        version: The version of the table that removed a data file; None for an inbox object or a dry run.
        findings: What is wrong with the object.
        dry_run: True where nothing was changed.
    """

    key: str
    table: str
    kind: Literal["inbox", "table"]
    moved_to: str | None
    points: int | None
    version: int | None
    findings: tuple[Finding, ...]
    dry_run: bool
