"""The dashboard as seen in a browser: from the command to the first chart, from a click to the new picture.

    python tests/benchmarks/bench_dashboard.py [--points 10_000_000] [--repeats 5] [--folder KEPT]

Each line has the time that passed in the page until the picture stood, and the CPU time that the browser and
the server spent on it, which other load changes less. Lines of the "bare page" are of marimo alone
(``bare_page.py``): one slider and one chart of as many points, without a lake.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))

from browser import MISSING, Browser, chromium
from served import Served

from metrics_lake.storage import open_storage

_spec = importlib.util.spec_from_file_location("lake_of_runs", Path(__file__).with_name("test_reading.py"))
lake_of_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lake_of_runs)

# picture() is a number for what the first chart shows, 0 before anything with a colour is drawn.
PROBES = """
let canvas = null;
window.picture = () => {
  if (!canvas || !canvas.isConnected) canvas = null;
  if (!canvas && window.deep) canvas = deep('canvas').find(each => each.height > 100);
  if (!canvas) return 0;
  // Every tenth line of pixels: looking must not cost what is looked at.
  const pen = canvas.getContext('2d');
  let hue = 0, sum = 7;
  for (let y = 5; y < canvas.height; y += 10) {
    const drawn = pen.getImageData(0, y, canvas.width, 1).data;
    for (let i = 0; i < drawn.length; i += 4) {
      const [r, g, b] = [drawn[i], drawn[i + 1], drawn[i + 2]];
      hue += Math.max(r, g, b) - Math.min(r, g, b) > 60;
      sum = (sum * 31 + r * 65536 + g * 256 + b) | 0;
    }
  }
  return hue > 20 ? sum || 1 : 0;
};
window.firstPicture = new Promise(done => {
  const look = () => window.picture() ? done(performance.now()) : setTimeout(look, 20);
  look();
});
window.untilOther = event => {
  const before = picture();
  let begun = 0;
  addEventListener(event, () => { begun = performance.now(); }, {capture: true, once: true});
  return new Promise(done => {
    const look = () => {
      const now = begun && picture();
      if (now && now !== before) done(performance.now() - begun);
      else setTimeout(look, 20);
    };
    look();
  });
};
"""
SLIDER = "deep('[role=slider]')[0]"


def main() -> None:
    """Fill a lake, open the page, use it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep the lake here, and take what is there already")
    asked = parser.parse_args()
    program = chromium()
    if program is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        kept = asked.folder or Path(folder)
        lake = kept / "lake"
        if not lake.exists():
            lake_of_runs.fill_table(
                open_storage(str(lake)), str(kept / "sorted.parquet"), asked.points, long_runs=200
            )
        (Path(folder) / "browser").mkdir()
        browser = Browser(program, Path(folder) / "browser")
        stack.callback(browser.close)
        with Served(lake, "--no-token") as served:
            measure(Watched(browser, served.process.pid), served, asked.repeats)
        with bare_page() as (process, address):
            watched = Watched(browser, process.pid)
            page = first_chart(watched, "bare page", address)
            changes(watched, page, "bare page, slider", asked.repeats, "keydown", lambda: slide(page))


def measure(watched: Watched, served: Served, repeats: int) -> None:
    """Time what somebody does."""
    for name in ("first page ever", "page"):
        page = first_chart(watched, name, served.page(runs="project/run-0000*"))
        page.wait("deep('canvas').length > 1")
        if name != "page":
            page.close()

    def times(name: str, event: str, act) -> None:
        changes(watched, page, name, repeats, event, act)

    def turn(at: int, way: int) -> None:
        page.evaluate(
            f"(s => {{ s.selectedIndex = (s.selectedIndex + {way} + s.options.length) % s.options.length;"
            " s.dispatchEvent(new Event('change', {bubbles: true, composed: true})); })"
            f"(deep('select')[{at}])"
        )

    def mark() -> None:
        x, y = page.middle("deep('canvas')[1]")
        page.drag((x - 300 + 20 * (time.monotonic_ns() % 7), y), (x - 350, y))

    times("smoothing slider", "keydown", lambda: slide(page))
    axis = page.evaluate("deep('select').findIndex(s => [...s.options].some(o => o.text === 'step'))")
    times("another axis", "change", lambda: turn(axis, 1))
    log = "deep('marimo-checkbox')[0].shadowRoot.querySelector('button')"
    times("log y", "pointerdown", lambda: page.click(log))
    page.close()
    page = first_chart(watched, "page again", served.page(runs="project/run-0000*"))
    page.wait("deep('canvas').length > 1")
    times("part of the axis", "pointerup", mark)
    names = "deep('marimo-multiselect')[0].shadowRoot.querySelector('button, [role=combobox], div[tabindex]')"
    page.click(names)
    page.wait("deep('[role=option]').length > 8")
    more = "deep('[role=option]').find(each => each.innerText.includes('metric/04'))"
    changes(watched, page, "a second metric", 1, "pointerup", lambda: page.click(more))
    page.close()
    page = first_chart(watched, "200 runs of 10k points", served.page(runs="long/*"))
    page.wait("deep('canvas').length > 1")
    times("200 runs, smoothing slider", "keydown", lambda: slide(page))
    page.close()


def first_chart(watched: Watched, name: str, address: str):
    """Open a page without any cache and then again with it; return it."""
    page = watched.browser.open("about:blank")
    page.call("Network.disable")  # it keeps every answer's body
    page.call("Page.addScriptToEvaluateOnNewDocument", source=PROBES)
    for cache in ("", ", cached"):
        with watched.spent() as spent:
            page.goto(address)
            page.wait("!!window.firstPicture")
            seconds = page.evaluate("firstPicture") / 1e3
        say(f"{name} to first chart{cache}", [seconds], [spent])
        time.sleep(1)
    return page


def changes(watched: Watched, page, name: str, repeats: int, event: str, act) -> None:
    """Time how long after an event of the page its picture is another."""
    took, costs = [], []
    for _ in range(repeats):
        page.evaluate(f"void (window.other = untilOther('{event}'))")
        with watched.spent() as spent:
            act()
            took.append(page.evaluate("other") / 1e3)
            time.sleep(1.0)
        costs.append(spent)
    say(name, took, costs)


def slide(page) -> None:
    """Move the slider by one."""
    page.evaluate(f"{SLIDER}.focus()")
    page.press("ArrowRight")


class Watched:
    """A browser and a server whose CPU time is looked at."""

    def __init__(self, browser: Browser, pid: int) -> None:
        self.browser = browser
        self._pids = {"browser": browser.pid, "server": pid}

    @contextlib.contextmanager
    def spent(self):
        """Give a dict that has the seconds which the browser and the server spent, once the block ends."""
        found: dict[str, float] = {}
        before = self._seconds()
        yield found
        for name, now in self._seconds().items():
            found[name] = sum(now[pid] - before[name].get(pid, 0.0) for pid in now)

    def _seconds(self) -> dict[str, dict[int, float]]:
        found: dict[str, dict[int, float]] = {}
        for name, pid in self._pids.items():
            process = psutil.Process(pid)
            found[name] = {}
            for each in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = each.cpu_times()
                    found[name][each.pid] = times.user + times.system
        return found


@contextlib.contextmanager
def bare_page():
    """Serve ``bare_page.py`` as marimo does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = str(Path(__file__).with_name("bare_page.py"))
    command = [sys.executable, "-m", "marimo", "run", "--headless", "--no-token", "--port", str(port), path]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
                break
            time.sleep(0.2)
        yield process, address
    finally:
        process.terminate()
        process.wait(20)


def say(name: str, seconds: list[float], costs: list[dict[str, float]]) -> None:
    """Print the medians of one thing."""
    cpu = ", ".join(f"{each} {statistics.median(cost[each] for cost in costs):.2f}" for each in costs[0])
    print(f"{name:36} {statistics.median(seconds):6.2f} s   (CPU s: {cpu})", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
