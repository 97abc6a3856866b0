"""Pauses of random lengths, and the program's own random numbers."""

import subprocess
import sys

from metrics_lake.jitter import jitter

# In a process of its own: what other tests left running may draw random numbers.
SEEDED = """
import random, sys
from metrics_lake import MetricsLake

random.seed(7)
state = random.getstate()
with MetricsLake(sys.argv[1]) as lake:
    for step in range(3):
        lake.log_metric("run", "loss", 0.5, step=step)
        lake.flush()
        assert lake.get_metric("run", "loss") == 0.5
    lake.copy_metrics("run", "copy")
    lake.maintenance.compact()
    lake.maintenance.delete("copy", dry_run=False)
sys.exit(random.getstate() != state)
"""


def test_jitter_lies_between_its_bounds_and_differs():
    found = [jitter(2.0, 3.0) for _ in range(50)]
    assert all(2.0 <= each <= 3.0 for each in found)
    assert len(set(found)) > 1


def test_seeded_programs_draw_the_same_random_numbers_with_a_lake(tmp_path):
    command = [sys.executable, "-c", SEEDED, str(tmp_path / "lake")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
