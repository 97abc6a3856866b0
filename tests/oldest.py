"""Print, as pip requirements, the oldest core dependencies that pyproject.toml allows, and the test tools.

The drivers of object stores are left out: each asks for the fsspec of its own date.
"""

import re
import sys
import tomllib
from pathlib import Path


def requirements() -> list[str]:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]
    oldest = [line.replace(">=", "==") for line in project["dependencies"]]
    extras = project["optional-dependencies"]
    names = ("test", "demo", "pandas", "cli", "plot", "report", "ui")
    tools = {line for name in names for line in extras[name]}
    servers = re.compile(
        r"metrics-lake|s3fs|gcsfs|seaweedfs|fake-gcs|deltalake|import-linter|mypy|ruff|pyarrow-stubs"
    )
    return [*oldest, *sorted(line for line in tools if not servers.match(line)), "deltalake"]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements()) + "\n")
