"""Every example in a docstring runs and prints what it says."""

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import metrics_lake

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


def modules() -> list[str]:
    found = [module.name for module in pkgutil.walk_packages(metrics_lake.__path__, "metrics_lake.")]
    return ["metrics_lake", *(name for name in found if not name.endswith("__main__"))]


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    return [
        test
        for name in modules()
        for test in finder.find(importlib.import_module(name), name)
        if test.examples
    ]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_the_docstring_says_the_truth(example: doctest.DocTest, tmp_path: Path) -> None:
    example.globs["tmp"] = tmp_path
    example.globs.setdefault("MetricsLake", metrics_lake.MetricsLake)
    printed: list[str] = []
    failed, attempted = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=printed.append)
    assert attempted > 0
    assert failed == 0, "".join(printed)


def test_the_contract_is_documented_by_examples() -> None:
    names = {example.name.rpartition(".")[2] for example in examples()}
    assert {"log_metric", "get_metric", "log_metrics", "copy_metrics", "log_series", "history"} <= names
