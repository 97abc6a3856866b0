"""Makes the README's pictures: ``python tests/screenshots.py [LAKE]``; without a lake the demo fills one."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "integration"))

from browser import MISSING, Browser, chromium
from served import SCRIPT, Served

PICTURES = Path(__file__).parents[1] / "notebooks" / "pictures"
PAGES = {
    "curves": {"metric": "valid/log_loss", "runs": "demo/digits/*"},
    "predictions": {"page": "Predictions", "job": "demo/predictions/cancer/1"},
}


def main() -> None:
    """Open each page and keep what it shows."""
    program = chromium()
    if program is None:
        sys.exit(MISSING)
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/lake")
        if not lake.exists():
            subprocess.run([str(SCRIPT), "demo", "--url", str(lake)], check=True, stdout=subprocess.DEVNULL)
        with Served(lake) as served:
            browser = Browser(program, Path(folder))
            try:
                for name, query in PAGES.items():
                    page = browser.open(served.page(**query), width=1280, height=900)
                    page.wait("deep('canvas, marimo-table').length > 0")
                    time.sleep(8)  # until the last chart stands and nothing turns any more
                    page.screenshot(PICTURES / f"{name}.png")
                    page.close()
            finally:
                browser.close()


if __name__ == "__main__":
    main()
