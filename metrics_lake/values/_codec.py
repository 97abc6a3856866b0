"""Dispatch by exact type and kind, and JSON trees of everything that has a kind."""

from __future__ import annotations

import json
import reprlib
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from metrics_lake.errors import CorruptObjectError, InvalidInputError, UnsupportedFormatError
from metrics_lake.values import _numpy
from metrics_lake.values._refusals import check_text, refused
from metrics_lake.values._scalars import (
    DECIMAL_BITS,
    DECODERS,
    ENCODERS,
    TAG,
    Encoded,
    float_node,
    int_text,
    not_null,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["KINDS", "MAX_DEPTH", "decode", "decode_columns", "encode"]

KINDS: Final[tuple[str, ...]] = (
    *("float", "int", "bool", "null", "str", "json"),
    *("bytes", "datetime", "date", "time", "timedelta", "decimal", "complex", "uuid"),
    *("np.bool", "np.int8", "np.int16", "np.int32", "np.int64"),
    *("np.uint8", "np.uint16", "np.uint32", "np.uint64", "np.longlong", "np.ulonglong"),
    *("np.float16", "np.float32", "np.float64", "np.longdouble"),
    *("np.complex64", "np.complex128", "np.clongdouble"),
    *("np.str", "np.bytes", "np.datetime64", "np.timedelta64", "np.ndarray"),
)
"""Every stored type. A kind's index is its code in the journal: names are only ever appended."""

MAX_DEPTH: Final = 64
"""Containers may nest this deep: tagged forms triple it, and JSON readers stop at a few hundred levels."""

_NUMBERS_AS_TEXT: Final = frozenset({"float", *_numpy.FLOAT_KINDS})
_dumps = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(value: Any) -> Encoded:
    """Return a value as (kind, numeric view, exact text); ``decode`` gives it back with its exact type.

    The numeric view is None where SQL aggregates shall not see the value, the text where the view says all.

    Raises:
        InvalidInputError: The value cannot be stored exactly; the hint says what to pass instead.

    >>> encode(0.5), encode(True), encode(2**53 + 1)
    (('float', 0.5, None), ('bool', 1.0, None), ('int', 9007199254740992.0, '9007199254740993'))
    >>> encode({"layers": (64, 32)})
    ('json', None, '{"layers":{"$kind":["tuple",[64,32]]}}')
    """
    if type(value) is float:
        return "float", value, None
    encoder = ENCODERS.get(type(value))
    return _encode_rare(value) if encoder is None else encoder(value)


def decode(kind: str, value: float | None, text: str | None) -> Any:
    """Return the value that ``encode`` was given.

    Raises:
        UnsupportedFormatError: The kind is newer than this version, or needs a package that is missing.
        CorruptObjectError: The columns do not belong together.

    >>> decode("int", 9007199254740992.0, "9007199254740993")
    9007199254740993
    """
    if kind == "float" and value is not None:
        return value
    decoder = DECODERS.get(kind)
    if decoder is None:
        raise UnsupportedFormatError(
            f"This version of metrics_lake does not know values of kind {kind!r}.",
            hint="Upgrade metrics_lake, or read the columns value and text as they are.",
            kind=kind,
        )
    try:
        return decoder(value, text)
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        raise CorruptObjectError(
            f"A value of kind {kind!r} cannot be read from value={value!r}, text={_short(text)}: {error}",
            kind=kind,
        ) from error


def decode_columns(
    kind: Sequence[str], value: Sequence[float | None], text: Sequence[str | None]
) -> list[Any]:
    """Return ``decode`` of every row of three columns of equal length."""
    if kind.count("float") == len(kind) and None not in value:
        return list(value)
    return list(map(decode, kind, value, text))


def _short(text: str | None) -> str:
    return repr(text) if text is None or len(text) <= 80 else f"{text[:80]!r}…"


def _encode_rare(value: Any) -> Encoded:
    """Encode a value whose type is not in the table yet, or never will be."""
    return encode(_resolve(value))


def _resolve(value: Any) -> Any:
    """Return the value if its type has a kind, else the scalar in an array or tensor without dimensions.

    Raises:
        InvalidInputError: It is something else.
    """
    if _has_kind(type(value)):
        return value
    # A class has these attributes as descriptors. numpy's other scalars and array subclasses (masked ones
    # above all: the item of a masked value is 0.0) would lose what makes them different.
    numpy = sys.modules.get("numpy")
    is_numpy = numpy is not None and isinstance(value, (numpy.generic, numpy.ndarray))
    item = getattr(value, "item", None)
    if isinstance(value, type) or is_numpy or getattr(value, "ndim", None) != 0 or not callable(item):
        raise refused(value)
    try:
        scalar = item()
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise InvalidInputError(f"{type(value).__qualname__}.item() failed: {error}") from error
    if not _has_kind(type(scalar)):
        raise refused(scalar)
    return scalar


def _has_kind(kind: type) -> bool:
    if kind in ENCODERS:
        return True
    if kind.__module__ != "numpy":
        return False
    for numpy_type, encoder in _numpy.encoders().items():
        ENCODERS.setdefault(numpy_type, encoder)
    if kind.__name__ == "ndarray":
        ENCODERS[kind] = _encode_array
    return kind in ENCODERS


def _encode_array(array: Any) -> Encoded:
    if array.ndim == 0:
        return encode(_numpy.item(array))
    return "np.ndarray", None, _dumps(_numpy.array_tree(array))


def _encode_json(value: Any) -> Encoded:
    return "json", None, _dumps(_Walk().node(value))


class _Walk:
    """One walk from a value to what ``json`` can write; it knows where it is for its messages."""

    def __init__(self) -> None:
        self._path: list[Any] = []
        self._open: set[int] = set()

    def node(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is float:
            return float_node(value)
        if kind is bool or value is None:
            return value
        if kind is int:
            return value if value.bit_length() <= DECIMAL_BITS else {TAG: ["int", int_text(value)]}
        if kind in _CONTAINERS:
            return self._container(value)
        return self._scalar(value)

    def _text(self, text: str) -> str:
        try:
            return check_text(text)
        except InvalidInputError as error:
            raise self._located(error) from error

    def _scalar(self, value: Any) -> Any:
        try:
            resolved = _resolve(value)
            if getattr(resolved, "ndim", None) == 0 and _numpy.is_array(resolved):
                resolved = _numpy.item(resolved)
            if type(resolved) in _CONTAINERS or type(resolved) in _PLAIN:
                return self.node(resolved)
            if _numpy.is_array(resolved):
                return {TAG: ["np.ndarray", _numpy.array_tree(resolved)]}
            kind, number, text = encode(resolved)
        except InvalidInputError as error:
            raise self._located(error) from error
        if text is not None:
            return {TAG: [kind, text]}
        if number is None or number - number != 0.0:
            return {TAG: [kind, repr(number)]}
        return {TAG: [kind, number if kind in _numpy.FLOAT_KINDS else int(number)]}

    def _container(self, value: Any) -> Any:
        if id(value) in self._open:
            raise self._located(InvalidInputError("The value contains itself."))
        if len(self._open) >= MAX_DEPTH:
            raise InvalidInputError(
                f"The value nests deeper than {MAX_DEPTH} levels.", hint="Flatten it.", max_depth=MAX_DEPTH
            )
        self._open.add(id(value))
        node: Any
        if isinstance(value, dict):
            node = self._dict(value)
        elif isinstance(value, list):
            node = [self._at(index, item) for index, item in enumerate(value)]
        elif isinstance(value, tuple):
            node = {TAG: ["tuple", [self._at(index, item) for index, item in enumerate(value)]]}
        else:
            node = {TAG: [type(value).__name__, sorted(map(self._key, value), key=_dumps)]}
        self._open.discard(id(value))
        return node

    def _dict(self, value: dict[Any, Any]) -> Any:
        if TAG not in value and all(type(key) is str for key in value):
            return {self._text(key): self._at(key, item) for key, item in value.items()}
        return {TAG: ["dict", [[self._key(key), self._at(key, item)] for key, item in value.items()]]}

    def _at(self, step: Any, item: Any) -> Any:
        self._path.append(step)
        node = self.node(item)
        self._path.pop()
        return node

    def _key(self, item: Any) -> Any:
        """Return the node of a dict's key or a set's item: without conversion, which could make two equal."""
        if not _has_kind(type(item)):
            raise self._located(refused(item))
        return self.node(item)

    def _located(self, error: InvalidInputError) -> InvalidInputError:
        if not self._path:
            return error
        path = "".join(f"[{reprlib.repr(step)}]" for step in self._path)
        return InvalidInputError(f"At {path}: {error.message}", hint=error.hint, **error.context)


def _from_node(node: dict[str, Any]) -> Any:
    """Turn a tagged object, whose insides are values already, into its value."""
    if TAG not in node:
        return node
    kind, payload = node[TAG]
    if kind == "np.ndarray":
        return _numpy.array_from_tree(payload)
    container = _CONTAINERS_BY_NAME.get(kind)
    if container is not None:
        return container(payload)
    if not isinstance(payload, str):
        return decode(kind, payload, None)
    if kind in _NUMBERS_AS_TEXT:
        return decode(kind, float(payload), None)
    return decode(kind, None, payload)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})
_CONTAINERS_BY_NAME: Final = {kind.__name__: kind for kind in _CONTAINERS}
_PLAIN: Final = frozenset({str, float, bool, int, type(None)})
_loads = json.JSONDecoder(object_hook=_from_node, parse_constant=_no_constant).decode

ENCODERS.update(dict.fromkeys(_CONTAINERS, _encode_json))
DECODERS["json"] = lambda _, text: _loads(not_null(text))
DECODERS["np.ndarray"] = lambda _, text: _numpy.array_from_tree(_loads(not_null(text)))
DECODERS.update({kind: partial(_numpy.decode, kind) for kind in _numpy.NUMPY_KINDS})
