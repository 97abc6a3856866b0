"""``python -m metrics_lake``: the console script, where its folder is not on the path."""

from metrics_lake.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
