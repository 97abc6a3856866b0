"""From the arguments of a call to points, and from points to bytes and Arrow rows: pure functions."""

from metrics_lake.points.arguments import checked_step, checked_timestamp, flattened
from metrics_lake.points.columns import Numbers, int64_column, numbers_of, timestamp_column, values_of
from metrics_lake.points.decoding import FrameDecoder, decode_frames
from metrics_lake.points.frames import (
    END,
    HEADER,
    Frame,
    Point,
    PointFields,
    SeriesEncoder,
    SeriesKey,
    end_frame,
    header_frame,
    is_torn,
    read_header,
    rows_frame,
    split_frames,
)
from metrics_lake.points.rows import (
    MADE_COLUMNS,
    point_rows,
    points_table,
    rows_of_points,
    series_rows,
    stamped_rows,
)

__all__ = [
    "END",
    "HEADER",
    "MADE_COLUMNS",
    "Frame",
    "FrameDecoder",
    "Numbers",
    "Point",
    "PointFields",
    "SeriesEncoder",
    "SeriesKey",
    "checked_step",
    "checked_timestamp",
    "decode_frames",
    "end_frame",
    "flattened",
    "header_frame",
    "int64_column",
    "is_torn",
    "numbers_of",
    "point_rows",
    "points_table",
    "read_header",
    "rows_frame",
    "rows_of_points",
    "series_rows",
    "split_frames",
    "stamped_rows",
    "timestamp_column",
    "values_of",
]
