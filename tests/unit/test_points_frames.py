"""Frames: what a call becomes in the journal comes back exactly, and nothing else is taken for a frame."""

from __future__ import annotations

import datetime as dt
import math
import struct
import time

import pyarrow as pa
import pytest

from metrics_lake.errors import CorruptObjectError, InvalidInputError, UnsupportedFormatError
from metrics_lake.points import (
    END,
    HEADER,
    FrameDecoder,
    Point,
    SeriesEncoder,
    decode_frames,
    end_frame,
    header_frame,
    is_torn,
    read_header,
    rows_frame,
    split_frames,
)
from metrics_lake.schema import METRICS, arrow_schema
from metrics_lake.values import KINDS, decode, encode

A = ("run", "loss", "")
B = ("run", "acc", '{"fold":"1"}')


def frames_of(data):
    return [frame for frame, _ in split_frames(data)]


def rows_of(*frames, first=0):
    table = decode_frames(METRICS, "w", first, frames_of(b"".join(frames)))
    assert table.schema.equals(arrow_schema(METRICS))
    return table.to_pylist()


def point(encoder, series, value, timestamp=5, step=None):
    kind, number, text = encode(value)
    frame = encoder.point(series, KINDS.index(kind), number, text, timestamp, step)
    encoder.unconfirmed = []
    return frame


def values_of(rows):
    return [decode(row["kind"], row["value"], row["text"]) for row in rows]


HARD_VALUES = [
    0.5,
    -0.0,
    0.0,
    float("inf"),
    -float("inf"),
    5e-324,
    1.7976931348623157e308,
    0,
    2**53 + 1,
    -(10**400),
    True,
    False,
    None,
    "",
    "π \0 \U0001f600",
    "x" * 100_000,
    b"",
    b"\0\xff",
    {"a": [1, {"b": None}]},
    [],
    dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
]


@pytest.mark.parametrize("value", HARD_VALUES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("is_known", [False, True], ids=["new series", "known series"])
def test_one_value_comes_back_exactly(value, is_known):
    encoder = SeriesEncoder()
    before = [point(encoder, A, 1.0)] if is_known else []
    rows = rows_of(*before, point(encoder, A, value, step=3))
    (found,) = values_of(rows[-1:])
    assert type(found) is type(value)
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True


@pytest.mark.parametrize("is_known", [False, True])
def test_nan_comes_back(is_known):
    encoder = SeriesEncoder()
    before = [point(encoder, A, 1.0)] if is_known else []
    (found,) = values_of(rows_of(*before, point(encoder, A, math.nan))[-1:])
    assert math.isnan(found)


def test_a_call_of_hard_values_comes_back_in_order():
    points = []
    for index, value in enumerate(HARD_VALUES):
        kind, number, text = encode(value)
        points.append(Point(("run", f"m{index}", ""), KINDS.index(kind), number, text))
    rows = rows_of(SeriesEncoder().points(points, -1, -(2**63)))
    assert values_of(rows) == HARD_VALUES
    assert math.copysign(1, rows[1]["value"]) == -1.0
    assert [row["metric"] for row in rows] == [f"m{index}" for index in range(len(HARD_VALUES))]
    assert {row["step"] for row in rows} == {-(2**63)}
    assert {row["timestamp"] for row in rows} == {dt.datetime(1969, 12, 31, 23, 59, 59, 999999, dt.UTC)}
    assert [row["seq"] for row in rows] == list(range(len(HARD_VALUES)))


def test_empty_texts_alone_are_texts():
    # A frame whose texts have no bytes at all.
    rows = rows_of(point(SeriesEncoder(), A, ""))
    assert rows[0]["text"] == ""
    assert rows[0]["kind"] == "str"


def test_every_column_is_there():
    encoder = SeriesEncoder()
    (row,) = rows_of(point(encoder, B, 2.5, timestamp=1_000_000, step=2**63 - 1), first=7)
    assert row == {
        "resource": "run",
        "metric": "acc",
        "step": 2**63 - 1,
        "timestamp": dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC),
        "value": 2.5,
        "kind": "float",
        "text": None,
        "tags": [("fold", "1")],
        "tags_key": '{"fold":"1"}',
        "writer": "w",
        "seq": 7,
        "origin": None,
    }


def test_no_step_is_not_step_zero():
    encoder = SeriesEncoder()
    rows = rows_of(point(encoder, A, 1.0), point(encoder, A, 1.0, step=0), point(encoder, A, 1.0))
    assert [row["step"] for row in rows] == [None, 0, None]


def test_types_of_frames_may_alternate():
    encoder = SeriesEncoder()
    expected = []
    frames = []
    for number in range(40):
        series = ("run", f"m{number % 7}", "" if number % 2 else '{"k":"é"}')
        kind = number % 3
        if kind == 0:
            frames.append(point(encoder, series, float(number), step=number))
            expected.append((series, number, float(number), "float", None))
        elif kind == 1:
            values = struct.pack("<2d", number, -0.0)
            steps = struct.pack("<2q", number, 9) if number % 4 else None
            frames.append(encoder.numbers(series, KINDS.index("int"), values, number, steps))
            at = (number, 9) if number % 4 else (None, None)
            expected += [(series, at[0], float(number), "int", None), (series, at[1], -0.0, "int", None)]
        else:
            table = rows_frame(
                decode_frames(METRICS, "", 0, frames_of(point(SeriesEncoder(), series, f"t{number}")))
                .drop_columns(["writer", "seq"])
                .combine_chunks()
            )
            frames.append(table)
            expected.append((series, None, None, "str", f"t{number}"))
        encoder.unconfirmed = []
    found = [
        (
            (row["resource"], row["metric"], row["tags_key"]),
            row["step"],
            row["value"],
            row["kind"],
            row["text"],
        )
        for row in rows_of(*frames)
    ]
    assert found == expected
    assert [row["seq"] for row in rows_of(*frames)] == list(range(len(expected)))


def test_series_frames_keep_each_values_own_time_and_step():
    encoder = SeriesEncoder()
    values = struct.pack("<3d", 1.0, math.inf, -0.0)
    times = struct.pack("<3q", 3, -2, 1)
    one = encoder.numbers(A, 0, values, times, None)
    encoder.unconfirmed = []
    two = encoder.numbers(B, 0, values, 4, struct.pack("<3q", 2, 1, 0))
    rows = rows_of(one, two)
    micros = [
        (row["timestamp"] - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
        for row in rows
    ]
    assert micros == [3, -2, 1, 4, 4, 4]
    assert [row["step"] for row in rows] == [None, None, None, 2, 1, 0]
    assert [repr(row["value"]) for row in rows] == ["1.0", "inf", "-0.0"] * 2


def test_segments_are_decoded_piece_by_piece():
    encoder = SeriesEncoder()
    frames = frames_of(
        b"".join(point(encoder, ("run", f"m{number % 5}", ""), float(number)) for number in range(50))
    )
    decoder = FrameDecoder(METRICS, "w", 10)
    pieces = [decoder.decode(frames[start : start + 7]) for start in range(0, 50, 7)]
    assert pa.concat_tables(pieces).equals(decode_frames(METRICS, "w", 10, frames))
    assert decoder.decode([]).num_rows == 0


def test_more_series_than_16_bits_count_in_one_call():
    points = [Point(("run", f"m{number}", ""), 0, float(number), None) for number in range(70_000)]
    table = decode_frames(METRICS, "w", 0, frames_of(SeriesEncoder().points(points, 1, None)))
    assert table.num_rows == 70_000
    assert table.column("metric")[69_999].as_py() == "m69999"
    assert table.column("value")[69_999].as_py() == 69_999.0


def test_a_definition_that_was_not_written_is_made_again():
    encoder = SeriesEncoder()
    kept = encoder.point(A, 0, 1.0, None, 1, None)
    encoder.unconfirmed = []
    encoder.point(B, 0, 2.0, None, 2, None)  # lost: a full disk
    encoder.numbers(("run", "other", ""), 0, bytes(8), 2, None)  # lost too
    again = encoder.point(B, 0, 3.0, None, 3, None)
    rows = rows_of(kept, again)
    assert [(row["metric"], row["value"]) for row in rows] == [("loss", 1.0), ("acc", 3.0)]


def test_a_refused_call_defines_nothing():
    encoder = SeriesEncoder()
    good = Point(A, 0, 1.0, None)
    for bad in (Point(("run", "", ""), 0, 1.0, None), Point(("x" * 5000, "m", ""), 0, 1.0, None)):
        with pytest.raises(InvalidInputError):
            encoder.points([good, bad], 1, None)
    rows = rows_of(encoder.points([good], 1, None))
    assert rows[0]["metric"] == "loss"


@pytest.mark.parametrize(
    "series", [("", "m", ""), ("r", "", ""), ("r", "x" * 4097, ""), ("r\ud800", "m", "")]
)
def test_a_new_series_is_checked(series):
    with pytest.raises(InvalidInputError):
        SeriesEncoder().point(series, 0, 1.0, None, 1, None)
    with pytest.raises(InvalidInputError):
        SeriesEncoder().numbers(series, 0, bytes(8), 1, None)


def test_a_call_beyond_a_gibibyte_is_refused(monkeypatch):
    monkeypatch.setattr("metrics_lake.points.frames.MAX_BODY_BYTES", 1000)
    encoder = SeriesEncoder()
    with pytest.raises(InvalidInputError, match="fit in a frame"):
        encoder.point(A, KINDS.index("str"), None, "x" * 1000, 1, None)
    assert rows_of(encoder.point(A, 0, 1.0, None, 1, None))[0]["value"] == 1.0


def test_a_kind_of_a_newer_version_is_left_to_it():
    frame = SeriesEncoder().points([Point(A, 255, 1.0, None)], 1, None)
    with pytest.raises(UnsupportedFormatError, match="kind"):
        rows_of(frame)


def test_points_in_a_segment_of_another_table_are_an_error():
    frame = SeriesEncoder().points([Point(A, 0, 1.0, None)], 1, None)
    with pytest.raises(CorruptObjectError, match="other"):
        decode_frames("other", "w", 0, frames_of(frame))


def test_header_and_end_hold_no_rows():
    frames = frames_of(header_frame({"a": "é", "first": 3}) + end_frame())
    assert [(frame.type, frame.rows) for frame in frames] == [(HEADER, 0), (END, 0)]
    assert read_header(frames[0]) == {"a": "é", "first": 3}


def test_a_frame_is_its_bytes():
    data = SeriesEncoder().points([Point(A, 0, 1.0, None)], 1, None)
    (frame,) = frames_of(data)
    assert frame.bytes() == data


# -- cuts and flips ------------------------------------------------------------------------------------------


def small_segment():
    encoder = SeriesEncoder()
    frames = [header_frame({"format": 1})]
    frames += [point(encoder, A, value) for value in (1.0, "text", 2**60, None)]
    frames.append(encoder.numbers(B, 0, struct.pack("<2d", 1, 2), 1, None))
    frames.append(end_frame())
    return frames


def test_every_cut_is_the_beginning_of_a_frame():
    frames = small_segment()
    data = b"".join(frames)
    ends = [sum(map(len, frames[: count + 1])) for count in range(len(frames))]
    for cut in range(len(data) + 1):
        found = list(split_frames(data[:cut]))
        assert [end for _, end in found] == [end for end in ends if end <= cut]
        assert is_torn(data[found[-1][1] if found else 0 : cut])


def test_every_flipped_bit_is_noticed():
    frames = small_segment()
    data = b"".join(frames)
    ends = [0, *(sum(map(len, frames[: count + 1])) for count in range(len(frames)))]
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        found = list(split_frames(flipped))
        # The frames before the flip are all there, none from it on, and what is left is no torn write.
        behind = found[-1][1] if found else 0
        assert behind == max(end for end in ends if end <= position // 8)
        assert [frame.bytes() for frame, _ in found] == frames[: len(found)]
        assert not is_torn(flipped[behind:])


@pytest.mark.parametrize("zeroes", [1, 7, 8, 12, 100, 5000])
def test_zeroes_of_a_power_loss_are_torn(zeroes):
    data = b"".join(small_segment())
    assert list(split_frames(data + bytes(zeroes)))[-1][1] == len(data)
    assert is_torn(bytes(zeroes))
    # A head whose body never reached the disk.
    head = data[:12]
    assert is_torn(head + bytes(int.from_bytes(head[:4], "little")))


def test_zeroes_before_more_frames_are_damage():
    frames = small_segment()
    assert not is_torn(bytes(20) + frames[1])


def test_frames_are_split_from_an_offset():
    frames = small_segment()
    data = b"".join(frames)
    assert [end for _, end in split_frames(data, len(frames[0]))][-1] == len(data)


# -- speed ---------------------------------------------------------------------------------------------------


def seconds(action):
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def test_decoding_does_not_loop_over_points():
    encoder = SeriesEncoder()
    few = frames_of(encoder.numbers(A, 0, bytes(8 * 1000), 1, bytes(8 * 1000)))
    many = frames_of(SeriesEncoder().numbers(A, 0, bytes(8 * 65_536), 1, bytes(8 * 65_536)))
    decode_frames(METRICS, "w", 0, few)
    base = min(seconds(lambda: decode_frames(METRICS, "w", 0, few)) for _ in range(5))
    # 65 times the rows: a loop in Python would take 65 times as long.
    assert min(seconds(lambda: decode_frames(METRICS, "w", 0, many)) for _ in range(5)) < 25 * base + 0.01


def test_decoding_many_short_series_costs_no_more_than_single_points():
    # Every frame of another series: decoding must not build the columns of all series for each of them.
    encoder = SeriesEncoder()
    short, mixed = [], []
    for number in range(4000):
        series = ("run", f"m{number}", "")
        short.append(encoder.numbers(series, 0, bytes(8), 1, None))
        encoder.unconfirmed = []
    encoder = SeriesEncoder()
    single = [point(encoder, ("run", f"m{number}", ""), 1.0) for number in range(4000)]
    encoder = SeriesEncoder()
    for number in range(4000):
        series = ("run", f"m{number}", "")
        mixed.append(
            point(encoder, series, 1.0) if number % 2 else encoder.numbers(series, 0, bytes(8), 1, None)
        )
        encoder.unconfirmed = []
    base = min(seconds(lambda: rows_table(single)) for _ in range(3))
    assert min(seconds(lambda: rows_table(short)) for _ in range(3)) < 15 * base + 0.05
    assert min(seconds(lambda: rows_table(mixed)) for _ in range(3)) < 15 * base + 0.05


def rows_table(frames):
    return decode_frames(METRICS, "w", 0, frames_of(b"".join(frames)))
