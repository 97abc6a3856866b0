"""Altair charts of Arrow tables; knows no lake, reads and writes nothing.

Each function takes the columns that a read verb returns and gives an ordinary Altair chart, whose subtitle
says what is not in the picture: points that were thinned out, values that are no numbers, series too many.
"""

from metrics_lake.charts._altair import Chart
from metrics_lake.charts.choosing import plot
from metrics_lake.charts.comparing import differing_columns, is_number, parallel, scatter
from metrics_lake.charts.counts import MAX_PANELS, MAX_POINTS, MAX_SERIES, MAX_SERIES_POINTS, Drawn, counted
from metrics_lake.charts.curves import curves
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.ranking import ranking
from metrics_lake.charts.theme import themed
from metrics_lake.charts.windows import windows

__all__ = [
    "MAX_PANELS",
    "MAX_POINTS",
    "MAX_SERIES",
    "MAX_SERIES_POINTS",
    "Chart",
    "Drawn",
    "counted",
    "curves",
    "differing_columns",
    "is_number",
    "parallel",
    "plot",
    "ranking",
    "scatter",
    "short_labels",
    "themed",
    "windows",
]
