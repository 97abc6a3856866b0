"""The dashboard as seen in a browser: from the command to the first chart, from a click to the new picture.

    python tests/benchmarks/bench_dashboard.py [--points 10_000_000] [--repeats 5]

Times are of one machine under whatever load it has: read them beside one another, and beside "machine", which
is what a fixed piece of work took meanwhile.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from browser import MISSING, Browser, chromium
from served import Served

from metrics_lake.storage import open_storage

_spec = importlib.util.spec_from_file_location("lake_of_runs", Path(__file__).with_name("test_reading.py"))
lake_of_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lake_of_runs)

TOLD = "(deep('[aria-roledescription=visualization]')[0] || {}).ariaLabel"
PIXELS = "(deep('canvas')[0] || {toDataURL: () => ''}).toDataURL()"


def main() -> None:
    """Fill a lake, open the page, use it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    program = chromium()
    if program is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        lake_of_runs.fill_table(open_storage(str(lake)), str(Path(folder) / "sorted.parquet"), asked.points)
        begun = time.perf_counter()
        with Served(lake, "--no-token") as served:
            say("command to address", time.perf_counter() - begun)
            (Path(folder) / "browser").mkdir()
            browser = Browser(program, Path(folder) / "browser")
            try:
                measure(browser, served, begun, asked.repeats)
            finally:
                browser.close()


def measure(browser: Browser, served: Served, begun: float, repeats: int) -> None:
    """Time what somebody does."""
    address = served.page(runs="project/run-0000*")
    for name in ("first page to first chart", "later page to first chart"):
        opened = time.perf_counter()
        page = browser.open(address)
        page.wait(f"!!{TOLD}", 120)
        say(name, time.perf_counter() - opened)
        if name.startswith("first"):
            say("command to first chart", time.perf_counter() - begun)
            page.close()
    page.wait("deep('canvas').length > 1")

    def times(name, act) -> None:
        took = []
        for _ in range(repeats):
            before = page.evaluate(PIXELS)
            start = time.perf_counter()
            act()
            page.wait(f"(now => now !== '' && now !== {before!r})({PIXELS})", 60)
            took.append(time.perf_counter() - start)
            time.sleep(1.0)
        say(name, statistics.median(took))

    def slide() -> None:
        page.evaluate("deep('[role=slider]')[0].focus()")
        page.press("ArrowRight")

    def turn(at: int, way: int) -> None:
        page.evaluate(
            f"(s => {{ s.selectedIndex = (s.selectedIndex + {way} + s.options.length) % s.options.length; "
            f"s.dispatchEvent(new Event('change', {{bubbles: true}})); }})(deep('select')[{at}])"
        )

    def mark() -> None:
        x, y = page.middle("deep('canvas')[1]")
        page.drag((x - 300 + 20 * (time.monotonic_ns() % 7), y), (x - 350, y))

    axis = page.evaluate("deep('select').findIndex(s => [...s.options].some(o => o.text === 'step'))")
    times("smoothing slider", slide)
    times("another axis", lambda: turn(axis, 1))
    turn(axis, 0)
    times("log y", lambda: page.click("deep('marimo-checkbox')[0].shadowRoot.querySelector('button')"))
    page.close()
    page = browser.open(address)
    page.wait(f"!!{TOLD}", 120)
    page.wait("deep('canvas').length > 1")
    time.sleep(1)
    times("part of the axis", mark)
    page.close()
    took = []
    for number in range(1, repeats + 1):
        start = time.perf_counter()
        page = browser.open(served.page(runs="project/run-0000*", metric=f"metric/{number:02}"))
        page.wait(f"!!{TOLD}", 120)
        took.append(time.perf_counter() - start)
        page.close()
    say("page of another metric", statistics.median(took))


def say(name: str, seconds: float) -> None:
    """Print one line, with what a fixed piece of work takes now."""
    start = time.perf_counter()
    sum(range(3_000_000))
    print(f"{name:28} {seconds:7.2f} s   (machine {time.perf_counter() - start:.3f} s)", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
