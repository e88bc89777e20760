"""The records of a raw message, or nothing where its value is no frame of ours.

The log checks that a message is what its writer wrote; who wrote it, it does not know. What
others write into a raw topic must not stop the resource.
"""

from __future__ import annotations

import polars as pl

from exchange.errors import Integrity
from exchange.log.frames import decode_frame
from exchange.pipeline.messages import RawBatch
from exchange.validate.source_frame import ROW, VERSION


def raw_frame(batch: RawBatch) -> pl.DataFrame | None:
    """Read the records; None where they cannot be read, or are not as many as the message says."""
    try:
        frame = decode_frame(batch.data)
    except Integrity:
        return None
    numbers = (frame.schema[name] for name in (ROW, VERSION) if name in frame.columns)
    sound = all(dtype.is_integer() or dtype == pl.Null for dtype in numbers)
    return frame if sound and frame.height == batch.rows else None
