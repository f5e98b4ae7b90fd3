"""The cuts between the pieces of a reply as the database has them: two bytes each, the lower one first."""

import struct
from collections.abc import Sequence


def packed(cuts: Sequence[int]) -> bytes | None:
    return struct.pack(f"<{len(cuts)}H", *cuts) if cuts else None


def unpacked(stored: bytes | None) -> Sequence[int]:
    return struct.unpack(f"<{len(stored) // 2}H", stored) if stored else ()
