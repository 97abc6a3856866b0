"""Immutable objects under one url: the only room that knows files, buckets and fsspec.

``open_storage`` turns a url into a ``Storage``; everything above this room sees keys and bytes only.
"""

from __future__ import annotations

from metrics_lake.storage.base import Creation, ObjectInfo, Storage
from metrics_lake.storage.opening import open_storage

__all__ = ["Creation", "ObjectInfo", "Storage", "open_storage"]
