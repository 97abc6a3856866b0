"""Make the golden lakes of the current format version; see ``README.md`` beside this file.

Run it once per format version: ``python tests/data/make_golden.py``. It makes those that are not there and
never replaces one.
"""

from __future__ import annotations

import datetime as dt
import decimal
import shutil
import sys
import tempfile
import uuid
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from deltalake import DeltaTable

from metrics_lake import MetricsLake
from metrics_lake.schema import FORMAT_VERSION

HERE = Path(__file__).parent
START = dt.datetime(2026, 10, 30, 12, 0, 0, 123456, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)

VALUES = {
    "float": 0.1,
    "float/nan": float("nan"),
    "float/inf": float("-inf"),
    "float/minus-zero": -0.0,
    "float/denormal": 5e-324,
    "int": -7,
    "int/odd": 2**53 + 1,
    "int/huge": 10**400,
    "int/hex": 1 << 3000,
    "bool": True,
    "null": None,
    "str": "relu",
    "str/hard": "nul \0 'quote' \"double\" é \U0001f600\n",
    "str/empty": "",
    "str/long": "x" * 3000,
    "json/list": [[50, 2], [1, 47]],
    "json/dict": {"a": 1, "b": [None, True, 1.5, "x"], "c": {}},
    "json/tuple": (1, (2.5, "x")),
    "json/set": {1, 2, 3},
    "json/frozenset": frozenset({"a", "b"}),
    "json/keys": {1: "one", None: "none", (1, 2): "pair"},
    "json/special": [float("nan"), float("inf"), -0.0, b"\xff", 1 << 3000, decimal.Decimal("1.10")],
    "json/tag": {"$kind": "mine"},
    "bytes": b"\x00\xff",
    "datetime/aware": dt.datetime(2026, 3, 29, 2, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=45))),
    "datetime/zone": dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    "datetime/naive": dt.datetime.fromisoformat("0001-01-01T00:00:00.000001"),
    "date": dt.date(9999, 12, 31),
    "time": dt.time(23, 59, 59, 999999),
    "timedelta": dt.timedelta(days=-1, microseconds=1),
    "decimal": decimal.Decimal("1.2300"),
    "decimal/nan": decimal.Decimal("NaN"),
    "complex": complex(1.5, -0.0),
    "uuid": uuid.UUID("01a205d3-aaaa-7bbb-8ccc-123456789abc"),
    "np/bool": np.bool_(True),
    **{f"np/{name}": np.dtype(name).type(np.iinfo(name).max) for name in (
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "longlong", "ulonglong"
    )},
    **{f"np/{name}": np.dtype(name).type("0.1") for name in ("float16", "float32", "float64", "longdouble")},
    "np/float32/nan": np.float32("nan"),
    **{
        f"np/{name}": np.dtype(name).type(complex(0.5, -2))
        for name in ("complex64", "complex128", "clongdouble")
    },
    "np/str": np.str_("text"),
    "np/bytes": np.bytes_(b"\x01\xfe"),
    "np/datetime64": np.datetime64("2026-11-22T01:02:03.000000004"),
    "np/timedelta64": np.timedelta64(-5, "ms"),
    "np/ndarray": np.array([[1.5, float("nan")], [-0.0, 3]], dtype="float32"),
    "np/ndarray/int": np.arange(6, dtype="int16").reshape(2, 3),
    "np/ndarray/bytes": np.frombuffer(bytes(range(48)), dtype="complex64"),
}  # fmt: skip
"""One value and more of every kind that this version stores."""

HISTORY = {
    ("runs/a", "loss", None): [(step, 1 / (step + 1)) for step in range(12)],
    ("runs/a", "acc", ("fold", "1")): [(step, step / 12) for step in range(12)],
    ("runs/a", "acc", ("fold", "2")): [(step, step / 24) for step in range(12)],
    ("runs/é=b%2F", "loss", None): [(None, 0.5), (None, 0.25), (-3, 2.0), (7, 7.0)],
    ("copies/a", "loss", None): [(step, 1 / (step + 1)) for step in range(12)],
}
"""What whole histories are: series to (step, value), in the order of ``history``."""


SCORED = [
    {"id": number, "country": "de" if number % 3 else "fr", "p": (number * 37 % 101) / 101}
    for number in range(24)
]
"""The predictions of the job ``churn``: two parts of twelve rows each."""

LABELS = [{"id": row["id"], "churned": row["p"] + (row["id"] * 13 % 7 - 3) / 10 > 0.5} for row in SCORED]
"""Their labels: the first sixteen are in the lake, the others come later."""

PRICES = [(float(number), number * 1.1 + (-1) ** number) for number in range(10)]
"""True and predicted numbers of the job ``prices``."""

CLASSES = [("a", "a"), ("b", "a"), ("c", "c"), ("b", "b"), ("a", "a"), ("c", "b")]
"""True and predicted classes of the job ``species``."""


def write_predictions(url: Path, state: Path) -> None:
    """Write prediction jobs: states, keyed predictions and labels, compacted and fresh."""
    import polars as pl

    scored, labels = pl.DataFrame(SCORED), pl.DataFrame(LABELS)

    def log(part: str) -> None:
        rows = scored[:12] if part == "one" else scored[12:]
        lake.log_prediction_metrics(
            "churn", rows, score="p", key="id", by="country", part=part, timestamp=START
        )

    with MetricsLake(url, state_dir=state, compaction="off") as lake:
        log("one")
        lake.log_ground_truth("churn", labels[:8], key="id")
        lake.log_prediction_metrics(
            "prices", [found for _, found in PRICES], truth=[true for true, _ in PRICES]
        )
        lake.maintenance.compact()
        log("two")
        lake.log_ground_truth("churn", labels[8:16], key="id")
        lake.log_prediction_metrics(
            "species", [found for _, found in CLASSES], truth=[true for true, _ in CLASSES]
        )


def write(url: Path, state: Path) -> None:
    """Write the lake: compacted, copied, deleted, rewritten by another engine, and fresh rows beside it."""

    def handle() -> MetricsLake:
        return MetricsLake(url, state_dir=state, compaction="off")

    with handle() as lake:
        for metric, value in VALUES.items():
            lake.log_metric("values", metric, value, timestamp=START)
        lake.maintenance.compact()
        for step, value in HISTORY["runs/a", "loss", None]:
            lake.log_metric("runs/a", "loss", value, step=step, timestamp=START + step * HOUR * 30)
            if step % 2:
                lake.maintenance.compact()
    # another engine rewrites one month; the next files are ours again
    DeltaTable(str(url / "metrics")).optimize.compact(partition_filters=[("month", "=", "2026-11")])
    with handle() as lake:
        for fold in ("1", "2"):
            for step, value in HISTORY["runs/a", "acc", ("fold", fold)]:
                lake.log_metric(
                    "runs/a", "acc", value, step=step, tags={"fold": fold}, timestamp=START + HOUR
                )
        lake.log_metric("mistakes", "loss", 1.0, timestamp=START)
        lake.flush()
        lake.maintenance.delete("mistakes", dry_run=False)
        lake.copy_metrics("runs/a", "copies/a", metrics="loss")
        lake.maintenance.vacuum(retention=dt.timedelta(0))
        lake.append({"resource": ["bulk"], "metric": ["x"], "value": [1.5], "timestamp": [START]}, key="once")
        for step, value in HISTORY["runs/é=b%2F", "loss", None]:
            lake.log_metric("runs/é=b%2F", "loss", value, step=step, timestamp=START + 2 * HOUR)
            if step is None:
                lake.flush()
    if not any((url / "metrics" / "_delta_log").glob("*.checkpoint.parquet")):
        raise AssertionError("too few versions for a checkpoint")


def main() -> None:
    """Write the golden lakes that are not beside this file yet."""
    for name, make in (("", write), ("-predictions", write_predictions)):
        target = HERE / f"golden-v{FORMAT_VERSION}{name}"
        if target.exists():
            sys.stdout.write(f"{target} is there: a golden lake is never made anew.\n")
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "lake"
            make(made, Path(folder) / "state")
            shutil.copytree(made, target)
        size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        sys.stdout.write(f"{target}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
