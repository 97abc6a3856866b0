"""``python read_back.py RECORD`` reads what ``drive.py`` saw being logged; it raises where they differ."""

import pickle
import sys
from collections import Counter
from pathlib import Path

from metrics_lake import MetricsLake


def is_same(read: object, value: object) -> bool:
    """Say whether what was read is what was logged: the same type, and equal, or not a number either."""
    return type(read) is type(value) and (read == value or (read != read and value != value))


def points_of(lake: MetricsLake, resource: tuple[str, str], metrics: set[str] | None) -> set[tuple]:
    rows = lake.history(lake.resource(resource).id, metrics and sorted(metrics), full=True).rows()
    return {(row["metric"], row["timestamp"], row["writer"], row["seq"]) for row in rows}


def compare(lake: MetricsLake, told: dict) -> int:
    points = 0
    for resource, metrics in told["expected"].items():
        for id, value in metrics.items():
            read = lake.get_metric(resource, id)
            assert is_same(read, value), (resource, id, read, value)
            points += 1
    for source, target in told["copies"]:
        copied = points_of(lake, source, set(told["expected"][source]) - {"from_a_pickle"})  # logged later
        assert copied, source
        assert copied <= points_of(lake, target, None), (source, target)
    for job, labels in told["predictions"].items():
        assert lake.get_metric(job, "num_predictions") == len(labels)
        if isinstance(labels[0], int):
            shares = {label: count / len(labels) for label, count in Counter(labels).items()}
            assert lake.get_metric(job, "class_distribution") == shares
        else:
            mean = lake.get_metric(job, "mean")
            assert abs(mean - sum(labels) / len(labels)) < 1e-9 * abs(mean), mean
    return points


def main() -> None:
    for told in pickle.loads(Path(sys.argv[1]).read_bytes()):  # noqa: S301 -- drive.py wrote it
        with MetricsLake(told["url"]) as lake:
            print(compare(lake, told))  # noqa: T201


if __name__ == "__main__":
    main()
