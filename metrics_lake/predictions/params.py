"""What states say of how they were made: labels, thresholds, parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metrics_lake.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["merge_params"]


def merge_params(sources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the params of a merged state.

    Labels that the data showed are united; everything that was declared must agree; exact values do not
    merge and are dropped.
    """
    merged: dict[str, Any] = {}
    parts: list[str] = []
    for source in sources:
        own = dict(source["params"])
        own.pop("exact", None)
        contained = [*own.pop("parts", []), *([source["part_id"]] if source["part_id"] is not None else [])]
        twice = sorted(set(contained) & set(parts))
        if twice:
            raise InvalidInputError(
                f"The part {twice[0]!r} is in two of the states.",
                hint="Merge the parts' own states once, not a merged state with one of its parts.",
                part=twice[0],
            )
        parts += contained
        for name, value in own.items():
            if name not in merged or (name == "label_kind" and merged[name] == "null"):
                merged[name] = value
            elif name == "label_kind" and value == "null":
                continue
            elif name == "seen_labels":
                merged[name] = sorted({*merged[name], *value})
            elif name == "label_kind" and merged[name] != value:
                raise InvalidInputError(
                    "The states cannot be merged: "
                    f"labels are of type {merged[name]} in one, {value} in another.",
                    hint="Cast labels and truths to one type in every part.",
                    parameter=name,
                )
            elif merged[name] != value:
                raise InvalidInputError(
                    f"The states cannot be merged: {name} is {merged[name]!r} in one, {value!r} in another.",
                    hint="Build all parts with the same task options.",
                    parameter=name,
                )
    if parts:
        merged["parts"] = sorted(parts)
    return merged
