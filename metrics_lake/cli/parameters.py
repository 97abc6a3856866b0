"""What the arguments and options of several commands mean."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from metrics_lake.globs import Glob, glob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

if TYPE_CHECKING:
    _Type = click.ParamType[Any]
else:
    _Type = click.ParamType  # no generic class below click 8.4

__all__ = [
    "AGE",
    "AT",
    "INSTANT",
    "STEPS",
    "at_option",
    "exact_option",
    "format_option",
    "instants_options",
    "limit_option",
    "pattern",
    "patterns",
    "table_option",
    "tags_of",
    "tags_options",
    "value_of",
    "yes_option",
]

FORMATS: Final = ("table", "json", "jsonl", "csv", "parquet")

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|w)(?: ago)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NO_JSON: Final = {
    "NaN": float("nan"),
    "nan": float("nan"),
    "Infinity": float("inf"),
    "inf": float("inf"),
    "-Infinity": float("-inf"),
    "-inf": float("-inf"),
}


class _Instant(_Type):
    """An instant: ISO 8601 (UTC unless it says otherwise), POSIX seconds, or how long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = _instant(value)
        if found is None:
            self.fail(
                f"{value!r} is no time: write 2026-11-22T08:30, POSIX seconds, or an age such as 90m or 7d",
                param,
                ctx,
            )
        return found


class _At(_Type):
    """A version of the table, an instant, or the text of a snapshot."""

    name = "version|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        del param, ctx
        if re.fullmatch(r"\d+", value):
            return int(value)
        return _instant(value) or value  # else a snapshot's own text, which only the lake can read


class _Age(_Type):
    """A length of time."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, dt.timedelta):
            return value
        found = _age(value)
        if found is None:
            self.fail(f"{value!r} is no length of time: write 12h, 7d or 0s", param, ctx)
        return found


class _Steps(_Type):
    """A step, or steps as in Python: first:end, first:end:stride."""

    name = "step|a:b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            if ":" not in value:
                return int(value)
            first, last, stride = (f"{value}:" if value.count(":") == 1 else value).split(":")
            start = int(first or 0)
            end = int(last) if last else min(2**63 - 1, start + sys.maxsize)
            return range(start, end, int(stride or 1))
        except ValueError:
            self.fail(f"{value!r} are no steps: write 7, 0:100, 100: or 0:100:10", param, ctx)


INSTANT: Final = _Instant()
AT: Final = _At()
AGE: Final = _Age()
STEPS: Final = _Steps()


def _age(text: str) -> dt.timedelta | None:
    found = _AGE.fullmatch(text.strip())
    try:
        return found and dt.timedelta(seconds=float(found[1]) * _SECONDS[found[2]])
    except OverflowError:
        return None


def _instant(text: str) -> dt.datetime | None:
    try:
        age = _age(text)
        if age is not None:
            return dt.datetime.now(dt.UTC) - age
        if re.fullmatch(r"\d{9,}(\.\d+)?", text):
            return dt.datetime.fromtimestamp(float(text), dt.UTC)
        found = dt.datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        return None
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found


def pattern(text: str, is_exact: bool) -> str | Glob:
    """Return what an argument of a command that takes patterns means."""
    return text if is_exact or not any(sign in text for sign in "*?[") else glob(text)


def patterns(texts: Sequence[str], is_exact: bool) -> list[str | Glob] | None:
    """Return what arguments mean; None for none of them, which is everything."""
    return [pattern(text, is_exact) for text in texts] or None


def value_of(text: str, *, is_string: bool = False, is_json: bool = False) -> Any:
    """Return the value that a text on the command line stands for: a JSON scalar, else the text itself.

    Python's and JavaScript's names of the floats that JSON lacks are these floats.

    Args:
        text: The argument.
        is_string: It is the value itself.
        is_json: It is any JSON, with the lake's own objects for what JSON lacks.

    Raises:
        UsageError: It shall be JSON and is none, or it is a number beyond all doubles.

    >>> value_of("3"), value_of("3.0"), value_of("true"), value_of('"3"'), value_of("relu")
    (3, 3.0, True, '3', 'relu')
    """
    if is_string:
        return text
    if is_json:
        from metrics_lake.values import decode

        return decode("json", None, _checked_json(text))
    if text in _NO_JSON:
        return _NO_JSON[text]
    try:
        value = json.loads(text, parse_constant=str, parse_float=_finite)
    except ValueError:
        return text
    return text if isinstance(value, list | dict) else value


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise click.UsageError(f"{text} is beyond the greatest double; --string logs it as text")
    return number


def _checked_json(text: str) -> str:
    def refuse(name: str) -> Any:
        raise click.UsageError(f'{name} is no JSON: write {{"$kind":["float","{float(name)}"]}}')

    try:
        json.loads(text, parse_constant=refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{text[:60]!r} is no JSON: {error}") from error
    return text


def tags_of(given: Sequence[str], is_untagged: bool = False) -> dict[str, str] | None:
    """Return the tags that ``--tag`` and ``--untagged`` say; None where neither was given.

    Raises:
        UsageError: One is not KEY=VALUE, or both were given.
    """
    if is_untagged:
        if given:
            raise click.UsageError("--tag and --untagged exclude each other")
        return {}
    tags: dict[str, str] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter(f"{each!r} is not KEY=VALUE", param_hint="'--tag'")
        if key in tags:
            raise click.BadParameter(f"{key!r} is given twice", param_hint="'--tag'")
        tags[key] = value
    return tags or None


# ---- options ----------------------------------------------------------------------------------------------

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    help="How to write the data: table on a terminal, jsonl in a pipe, unless said.",
)
at_option = click.option(
    "--at", type=AT, help="The lake as of a time (2026-11-22T08:30, 2h ago), or a version of its table."
)
exact_option = click.option("--exact", is_flag=True, help="RESOURCE and METRIC are literal, not patterns.")
table_option = click.option(
    "--table",
    type=click.Choice(("metrics", "prediction_states", "predictions", "ground_truth")),
    help="One of the lake's tables.",
)
limit_option = click.option(
    "--limit",
    type=click.IntRange(min=0),
    help="At most so many rows; 0 is all. A table shows 200 unless said.",
)
yes_option = click.option("--yes", is_flag=True, help="Do it; without this only say what would be done.")


def tags_options(help_text: str, *, untagged: bool = False) -> Callable[..., Any]:
    """Return the decorator for ``--tag``, and ``--untagged`` where one series is meant."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        if untagged:
            function = click.option("--untagged", is_flag=True, help="The series without tags.")(function)
        return click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help=help_text)(function)

    return decorate


def instants_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--since`` and ``--until``."""
    function = click.option("--until", type=INSTANT, help="Only points before this time.")(function)
    return click.option(
        "--since", type=INSTANT, help="Only points from this time on: 2026-11-22T08:30 (UTC), 90m, 7d."
    )(function)
