"""Altair charts of Arrow tables; knows no lake, reads and writes nothing.

Each function takes the columns that a read verb returns and gives an ordinary Altair chart, whose subtitle
says what is not in the picture: points that were thinned out, values that are no numbers, series too many.
"""

from metrics_lake.charts._altair import Chart, vega_lite_version
from metrics_lake.charts.calibration import calibration
from metrics_lake.charts.choosing import plot
from metrics_lake.charts.classes import class_distribution
from metrics_lake.charts.comparing import differing_columns, is_number, parallel, scatter
from metrics_lake.charts.confusion import confusion_matrix
from metrics_lake.charts.counts import MAX_PANELS, MAX_POINTS, MAX_SERIES, MAX_SERIES_POINTS, Drawn, counted
from metrics_lake.charts.curves import curves
from metrics_lake.charts.discrimination import precision_recall, roc
from metrics_lake.charts.distributions import distribution
from metrics_lake.charts.intervals import intervals
from metrics_lake.charts.labels import short_labels
from metrics_lake.charts.looks import time_scale
from metrics_lake.charts.predictions import beside, curve_chart, metrics_chart
from metrics_lake.charts.ranking import ranking
from metrics_lake.charts.segments import segment_texts
from metrics_lake.charts.theme import themed
from metrics_lake.charts.windows import windows

__all__ = [
    "MAX_PANELS",
    "MAX_POINTS",
    "MAX_SERIES",
    "MAX_SERIES_POINTS",
    "Chart",
    "Drawn",
    "beside",
    "calibration",
    "class_distribution",
    "confusion_matrix",
    "counted",
    "curve_chart",
    "curves",
    "differing_columns",
    "distribution",
    "intervals",
    "is_number",
    "metrics_chart",
    "parallel",
    "plot",
    "precision_recall",
    "ranking",
    "roc",
    "scatter",
    "segment_texts",
    "short_labels",
    "themed",
    "time_scale",
    "vega_lite_version",
    "windows",
]
