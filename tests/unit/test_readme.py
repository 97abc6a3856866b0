"""The README's words are true: its Python runs, its commands exist."""

import re
import tomllib
from pathlib import Path

import pytest

import metrics_lake

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What needs lolpop runs in an environment that has it: tests/integration/test_lolpop.py.
RUN_HERE = re.sub(r"^## lolpop\n.*?(?=^## |\Z)", "", README, flags=re.MULTILINE | re.DOTALL)
BLOCKS = re.findall(r"^```python\n(.*?)^```", RUN_HERE, flags=re.MULTILINE | re.DOTALL)


def test_there_is_python_to_run() -> None:
    assert BLOCKS


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_python_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    promised: list[tuple[object, str]] = []
    names: dict[str, object] = {}
    for line in code.splitlines():
        found = re.fullmatch(r"(lake\.get_metric\(.*\))  # (\S+)", line)
        if found:
            promised.append((found[1], found[2]))
            code = code.replace(line, f"said.append({found[1]})")
    names["said"] = said = []
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 -- the README is ours
    assert [repr(value) for value in said] == [text for _, text in promised]


def test_the_two_commands_name_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    named = {name for group in re.findall(r"\[([a-z0-9,]+)\]", README) for name in group.split(",")}
    assert named
    assert named <= extras.keys()


def test_links_lead_to_files() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).is_file(), target


def test_all_public_names_are_sorted_and_there() -> None:
    assert list(metrics_lake.__all__) == sorted(metrics_lake.__all__)
    assert all(hasattr(metrics_lake, name) for name in metrics_lake.__all__)
