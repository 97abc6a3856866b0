"""Print the oldest versions of the core dependencies that pyproject.toml allows, as pip requirements."""

import re
import sys
import tomllib
from pathlib import Path


def oldest() -> list[str]:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    bounds = [re.fullmatch(r"([a-z0-9-]+)>=([0-9.]+)", line) for line in project["project"]["dependencies"]]
    return [f"{bound[1]}=={bound[2]}" for bound in bounds if bound is not None]


if __name__ == "__main__":
    sys.stdout.write("\n".join(oldest()) + "\n")
