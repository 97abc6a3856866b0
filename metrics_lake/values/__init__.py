"""Values of any supported type as three columns (``kind``, ``value``, ``text``), and back with exact type.

=================  ==============================  ====================================================
kind               ``value`` (the numeric view)    ``text`` (None where ``value`` says all)
=================  ==============================  ====================================================
``float``          the float itself                None
``int``            nearest double; NULL outside    None up to 2**53, else the digits (``0x…`` above
                   the range of a double           2048 bits)
``bool``           0 or 1                          None
``null``           NULL                            None
``str``            NULL                            itself
``json``           NULL                            list, dict, tuple, set, frozenset as JSON
``bytes``          NULL                            base64
``datetime``       NULL                            ISO 8601, a zone behind it as ``[Europe/Berlin]``
``date time``      NULL                            ISO 8601
``timedelta``      NULL                            ``1 days 3.000001 seconds``: SQL casts it to interval
``decimal``        nearest double, as for int      its own text, trailing zeros and all
``complex``        NULL                            Python's text
``uuid``           NULL                            the canonical form
``np.bool`` …      as for bool, int, float         as for int; of a long double the shortest exact form
``np.datetime64``  NULL                            ``count[unit]``; ``np.timedelta64`` alike
``np.ndarray``     NULL                            JSON: ``dtype``, ``shape``, ``values`` or ``base64``
=================  ==============================  ====================================================

What JSON can say is plain JSON, so that SQL's JSON functions see it as it was logged. The rest, at any depth,
is an object with the single key ``$kind`` over ``[kind, payload]``:

* ``{"$kind": ["float", "nan"]}``, also ``"inf"``, ``"-inf"``; ``{"$kind": ["int", "0x…"]}`` above 2048 bits;
* a scalar of any kind above: its ``text``, or where that is None its number: ``{"$kind": ["np.int8", 3]}``;
* ``{"$kind": ["tuple", [item, …]]}``, ``set`` and ``frozenset`` alike, both ordered by their items' JSON;
* ``{"$kind": ["dict", [[key, value], …]]}``: a dict whose keys are not all str, or that has a key ``$kind``.

Arrays and tensors without dimensions become Python scalars by ``.item()``; there is no other conversion.
What cannot come back with its exact type is refused with a hint that names what to pass instead. Not kept:
the bits of a NaN, the memory order of an array, whether two places of a value are one object.
"""

from __future__ import annotations

from metrics_lake.values._codec import KINDS, MAX_DEPTH, decode, decode_columns, encode

__all__ = ["KINDS", "MAX_DEPTH", "decode", "decode_columns", "encode"]
