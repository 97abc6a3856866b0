"""Writer ids: unique for ever, and greater for a writer that was born later."""

from __future__ import annotations

import os
import time
import uuid

__all__ = ["new_writer_id"]


def new_writer_id() -> str:
    """Return a uuid7 (RFC 9562, section 5.7) as 32 hexadecimal digits."""
    millis = time.time_ns() // 1_000_000
    number = (millis & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    return uuid.UUID(int=number).hex
