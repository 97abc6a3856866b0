"""The cell: a histogram key whose edges are exact binary numbers, so that coarsening and merging are exact.

*Scores* in [0, 1]: below 1/16 the leading bits of the double, in the middle 4,096 equal steps, above 15/16
the mirror image (``1 - s`` is exact there). Cell ``c`` is ``[edge(c), edge(c + 1))`` up to 15/16 and
``(edge(c), edge(c + 1)]`` above.

*Real numbers*: the sign and the leading bits of the double, so that a cell's width is at most 2^-7 of its
numbers: an exact log-linear histogram. Non-negative numbers have the cells 0, 1, … and negative ones
-2, -3, …, in the order of the numbers; cell 0 holds both zeros and what is within 6e-322 of them.

Dropping the low bits of a cell's number gives the cell of half the resolution.
"""

from __future__ import annotations

from typing import Final

import polars as pl

__all__ = [
    "NUMBER_KEYS",
    "NUMBER_RESOLUTION",
    "SCORE_CELLS",
    "SCORE_CODES",
    "SCORE_MIDDLE",
    "SCORE_RESOLUTION",
    "cell_of_key",
    "coarsen",
    "edges",
    "is_infinite_key",
    "is_nan_key",
    "number_key",
    "score_cell",
    "score_code",
    "step",
]

SCORE_RESOLUTION: Final = 12
"""Bits of a score's cell: 2^-12 in the middle."""

NUMBER_RESOLUTION: Final = 7
"""Bits of a number's cell behind its exponent."""

_SHIFT: Final = 1 << (52 - NUMBER_RESOLUTION)
_TAIL: Final = (1023 - 4) << NUMBER_RESOLUTION  # the cell of 1/16
NUMBER_KEYS: Final = 1 << (63 - (52 - NUMBER_RESOLUTION))
"""Keys of the non-negative numbers; the negative ones have as many, below."""

_INFINITE: Final = 2047 << NUMBER_RESOLUTION

_MIDDLE: Final = 4096 * 14 // 16
SCORE_CELLS: Final = 2 * _TAIL + _MIDDLE
"""How many cells a score can fall into: 264,448, of which a data set touches a few thousand."""

SCORE_CODES: Final = 1 << 20
"""Codes of :func:`score_code` are below this, with room for 100,000 steps of the caller's own."""

SCORE_MIDDLE: Final = _TAIL + 2048
"""The code of 1/2; those from 1/16 to 15/16 follow one another, and outside go on by 128 for each halving."""


def score_cell(score: pl.Expr) -> pl.Expr:
    """Return the cell (UInt64) of a Float64 score in [0, 1]; anything else gives a meaningless number."""
    score = score.abs()  # -0.0 has the bits of a negative number
    tail = _leading(score)
    middle = step(score * 4096.0).cast(pl.UInt64) + (_TAIL - 256)
    mirror = SCORE_CELLS - 1 - _leading(1.0 - score)
    return pl.when(score < 0.0625).then(tail).when(score < 0.9375).then(middle).otherwise(mirror)


def score_code(score: pl.Expr, *steps: pl.Expr) -> pl.Expr:
    """Return a code (UInt32) that differs wherever the cell of a score in [0, 1] or one of the steps does.

    What a code stands for is read off any score that has it. Twice as fast as the cell itself, for there is
    no choice between three formulas: each grows with the score over all of [0, 1], and so their sum tells
    apart what one of them does. It tells a little more apart than cells do: -0.0 and, above 15/16, the edges.

    Args:
        score: Float64 in [0, 1].
        steps: Whole numbers (UInt32) that grow with the score.
    """
    sixteenth = pl.lit(0.0625)
    code = step(score * 4096.0) + _TAIL
    code += _leading(pl.min_horizontal(score, sixteenth)).cast(pl.UInt32, wrap_numerical=True)
    code -= _leading(pl.min_horizontal(1.0 - score, sixteenth)).cast(pl.UInt32, wrap_numerical=True)
    for other in steps:
        code += other
    return code


def step(value: pl.Expr) -> pl.Expr:
    """Return the whole part (UInt32) of a Float64 below 2^32; anything else gives a meaningless number."""
    # Without a check of the range, which takes twice the time of the conversion.
    return value.cast(pl.UInt32, wrap_numerical=True)


def _leading(value: pl.Expr) -> pl.Expr:
    return value.reinterpret(dtype=pl.UInt64) // _SHIFT


def number_key(value: pl.Expr) -> pl.Expr:
    """Return the leading bits (Int64, not negative; NULL stays NULL) of a Float64.

    Cheaper by far than the cell itself, which :func:`cell_of_key` makes of the few keys that occur. NaN and
    infinity have keys of their own.
    """
    return value.reinterpret(dtype=pl.Int64).floordiv(_SHIFT) + NUMBER_KEYS


def cell_of_key(key: pl.Expr) -> pl.Expr:
    """Return the cell of a number from its key."""
    # The first negative key is that of -0.0, which is no other number than 0.0.
    return pl.when(key >= NUMBER_KEYS).then(key - NUMBER_KEYS).when(key == 0).then(0).otherwise(-1 - key)


def is_infinite_key(key: pl.Expr) -> pl.Expr:
    """Return whether a key is that of plus or minus infinity."""
    return key % NUMBER_KEYS == _INFINITE


def is_nan_key(key: pl.Expr) -> pl.Expr:
    """Return whether a key is that of a NaN."""
    return key % NUMBER_KEYS > _INFINITE


def coarsen(cell: pl.Expr, bits: pl.Expr) -> pl.Expr:
    """Return the cells at a resolution lower by ``bits`` (Int64, not negative)."""
    # Floor division: -1 >> 1 is -1, so negative numbers coarsen alike.
    return cell.floordiv(pl.lit(2, dtype=pl.Int64).pow(bits))


def edges(cell: pl.Expr, dropped: pl.Expr, *, is_score: bool) -> tuple[pl.Expr, pl.Expr]:
    """Return the lower and upper edge (Float64) of cells whose resolution was lowered by ``dropped`` bits."""
    step = pl.lit(2, dtype=pl.Int64).pow(dropped)
    edge = _score_edge if is_score else _number_edge
    return edge(cell * step), edge((cell + 1) * step)


def _double(bits: pl.Expr) -> pl.Expr:
    # Clipped to the largest finite number: the edge behind it would be infinite.
    largest = 0x7FEFFFFFFFFFFFFF
    scaled = bits.cast(pl.UInt64, strict=False) * _SHIFT
    return pl.min_horizontal(scaled, pl.lit(largest, dtype=pl.UInt64)).reinterpret(dtype=pl.Float64)


def _score_edge(cell: pl.Expr) -> pl.Expr:
    return (
        pl.when(cell <= _TAIL)
        .then(_double(cell.clip(0, _TAIL)))
        .when(cell <= _TAIL + _MIDDLE)
        .then((cell - (_TAIL - 256)).cast(pl.Float64) / 4096.0)
        .otherwise(1.0 - _double((SCORE_CELLS - cell).clip(0, _TAIL)))
    )


def _number_edge(cell: pl.Expr) -> pl.Expr:
    # Cell 0 reaches below zero as far as -0.0's leading bits do: 6e-322.
    return pl.when(cell > 0).then(_double(cell.clip(0))).otherwise(-_double((-cell).clip(1)))
