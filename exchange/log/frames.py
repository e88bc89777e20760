"""Frames as message values: one zstd frame (level 1) around an Arrow IPC stream.

``zstd -d < value`` gives a stream that any Arrow library reads. Compressing the whole stream,
not each buffer, costs the same time, and buys a checksum over everything and the true size in
the header: a damaged or oversized value is refused before an Arrow parser sees a byte of it.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Iterator

import polars as pl
from polars.exceptions import PanicException, PolarsError

from exchange.errors import Integrity, Rejected
from exchange.log import MAX_VALUE_BYTES
from exchange.text import Text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_ROWS = 8_192
"""Rows in one message."""
MAX_BYTES = 900 * 1024
"""Bytes of one message, below the 1 MiB that a Kafka broker takes by default."""
MAX_UNFOLDED = 32 * 1024 * 1024
"""Bytes in memory of the records of one message: several are unfolded at a time."""
MAX_DECODED = 256 * 1024 * 1024
"""Bytes that one message may unfold to."""

_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.checksum_flag: 1,
}
_UNREADABLE = Text(
    "该消息不能读作数据帧:写入后内容被改动, 或不是本系统写入",
    "the value does not read as a frame: it was changed after writing, or others wrote it",
)
_TOO_LARGE = Text(
    "消息解压后过大或未写明大小",
    "the value unfolds to more than is read, or does not say to how much",
)
_STOP = Text(
    "停止处理此主题, 从备份或来源重新取数, 并查明是谁改动了日志",
    "stop this topic, take the data from a backup or the source again, and find who wrote there",
)


def encode_frame(frame: pl.DataFrame) -> bytes:
    """Return the message value of ``frame``; the same frame gives the same bytes.

    Raises :class:`Rejected` for a column of Python objects: it has no Arrow type.
    """
    for name, dtype in frame.schema.items():
        if dtype == pl.Object:
            raise Rejected(
                Text(
                    f"列 {name} 是 Python 对象, 没有对应的列式类型",
                    f"column {name} holds Python objects, which have no column type",
                ),
                hint=Text(
                    "请连接器给出文本、数字、日期等类型", "let the connector give text or numbers"
                ),
            )
    stream = io.BytesIO()
    frame.write_ipc_stream(stream, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return zstd.compress(stream.getbuffer(), options=_OPTIONS)


def encode_slices(
    frame: pl.DataFrame, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
) -> Iterator[tuple[int, int, bytes]]:
    """Cut ``frame`` into message values; yield (first row, rows, bytes) in order.

    A slice that comes out over ``max_bytes``, or unfolds to more than ``MAX_UNFOLDED``, is
    halved, down to one record: a single record that is larger still is yielded as it is, see
    :func:`is_too_large`.
    """
    todo = [
        (start, min(max_rows, frame.height - start)) for start in range(0, frame.height, max_rows)
    ]
    todo.reverse()
    while todo:
        start, rows = todo.pop()
        part = frame.slice(start, rows)
        if rows == 1 or part.estimated_size() <= MAX_UNFOLDED:
            data = encode_frame(part)
            if rows == 1 or len(data) <= max_bytes:
                yield start, rows, data
                continue
        half = rows // 2
        todo += [(start + half, rows - half), (start, half)]


def is_too_large(record: pl.DataFrame, data: bytes) -> bool:
    """Tell whether a single record, encoded as ``data``, is more than a message can carry."""
    return len(data) > MAX_VALUE_BYTES or record.estimated_size() > MAX_UNFOLDED


def decode_frame(data: bytes, *, max_decoded: int = MAX_DECODED) -> pl.DataFrame:
    """Read a message value back, type for type.

    Raises :class:`Integrity` when ``data`` is damaged, foreign, or unfolds to more than
    ``max_decoded`` bytes.
    """
    try:
        size = zstd.get_frame_info(data).decompressed_size
        if size is None or size > max_decoded:
            raise Integrity(_TOO_LARGE, hint=_STOP)
        return pl.read_ipc_stream(_unfold(data, size))
    except (zstd.ZstdError, PolarsError, PanicException) as error:
        raise Integrity(_UNREADABLE, hint=_STOP) from error


def count_rows(data: bytes, *, max_decoded: int = MAX_DECODED) -> int:
    """Return how many rows a message value has; a fifth of the cost of :func:`decode_frame`.

    Raises :class:`Integrity` as it does.
    """
    import pyarrow as pa

    try:
        size = zstd.get_frame_info(data).decompressed_size
        if size is None or size > max_decoded:
            raise Integrity(_TOO_LARGE, hint=_STOP)
        with pa.ipc.open_stream(_unfold(data, size)) as stream:
            return sum(batch.num_rows for batch in stream)
    except (zstd.ZstdError, pa.ArrowException, OSError) as error:
        raise Integrity(_UNREADABLE, hint=_STOP) from error


class Recent:
    """Frames that this process wrote a moment ago, by their bytes.

    Whoever reads the very same bytes back has the frame without decoding it: half a
    microsecond a row. Each is handed out once; the oldest are forgotten. Used by any thread.
    """

    def __init__(self, max_bytes: int = 16 * 1024 * 1024) -> None:
        """Keep frames of at most ``max_bytes`` encoded bytes."""
        self._frames: dict[bytes, pl.DataFrame] = {}
        self._room = max_bytes
        self._lock = threading.Lock()

    def keep(self, data: bytes, frame: pl.DataFrame) -> None:
        """Remember that ``data`` is ``frame`` encoded."""
        with self._lock:
            self._room -= len(data) if data not in self._frames else 0
            self._frames[data] = frame
            while self._room < 0:
                oldest = next(iter(self._frames))
                self._room += len(oldest)
                del self._frames[oldest]

    def take(self, data: bytes) -> pl.DataFrame | None:
        """Return the frame of ``data`` and forget it; None when it is not among them."""
        with self._lock:
            frame = self._frames.pop(data, None)
            self._room += len(data) if frame is not None else 0
        return frame


def _unfold(data: bytes, size: int) -> bytes:
    """Decompress exactly one frame of ``size`` bytes, with nothing behind it."""
    decompressor = zstd.ZstdDecompressor()
    unfolded = decompressor.decompress(data, size + 1)
    if not decompressor.eof or decompressor.unused_data:
        raise zstd.ZstdError("not exactly one frame")
    return unfolded
