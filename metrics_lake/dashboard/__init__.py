"""The dashboard that ``metrics-lake ui`` serves: a marimo app over one lake, on this machine.

``server`` serves, ``app`` is the page, ``offered`` tells the page which lake the process serves.
"""

from metrics_lake.dashboard.server import Dashboard

__all__ = ["Dashboard"]
