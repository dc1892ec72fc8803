"""Parsing record batches whose header names are any bytes at all: aiokafka's parser takes UTF-8 only, a broker does not.

Only what concerns the records themselves is parsed here. Checksums, transactions and control batches stay aiokafka's
business: a `TolerantBatch` answers every other question by the library's own object. The format is Kafka's message format 2
(https://kafka.apache.org/documentation/#recordbatch).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import decode_varint

__all__ = ["TolerantBatch", "TolerantRecord", "TolerantRecords", "shown"]

_LENGTH = struct.Struct(">i")
_LENGTH_AT = 8  # bytes into a batch; the length counts from behind itself
_BEHIND_LENGTH = 12
_MAGIC_AT = 16
_COUNT_AT = 57
_RECORDS_AT = 61
_MAGIC = 2  # older formats know no headers

_DECODE: dict[int, Any] = {
    DefaultRecordBatch.CODEC_NONE: bytes,
    DefaultRecordBatch.CODEC_GZIP: gzip_decode,
    DefaultRecordBatch.CODEC_SNAPPY: snappy_decode,
    DefaultRecordBatch.CODEC_LZ4: lz4_decode,
    DefaultRecordBatch.CODEC_ZSTD: zstd_decode,
}

_LOG_APPEND_TIME = 1


@dataclass(frozen=True, slots=True)
class TolerantRecord:
    """One record, with the attributes of aiokafka's.

    Attributes:
        offset: in its partition.
        timestamp: milliseconds since 1970.
        timestamp_type: 0: the producer's, 1: the broker's.
        key: the record key.
        value: the body.
        headers: in order; a name that is not UTF-8 as `shown` shows it.
        checksum: message format 2 has none for a record.
    """

    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    checksum: None = None


class TolerantBatch:
    """One batch: iterating gives `TolerantRecord`s, everything else is aiokafka's answer.

    Args:
        data: the bytes of exactly one batch of message format 2.
        bad_names: gets the first header name that is not UTF-8 of each record that has one, by offset.
    """

    def __init__(self, data: bytes, bad_names: dict[int, bytes]) -> None:
        self._data = data
        self._bad_names = bad_names
        self._known: Any = DefaultRecordBatch(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._known, name)

    def __next__(self) -> Any:
        """Return the next record as aiokafka reads it; it asks for that of a control batch."""
        return next(self._known)

    def __iter__(self) -> Iterator[TolerantRecord]:
        """Parse record by record.

        Raises:
            CorruptRecordException: the bytes are no records.
        """
        known = self._known
        try:
            cursor = _Cursor(_DECODE[known.compression_type](self._data[_RECORDS_AT:]))
            for _ in range(*_LENGTH.unpack_from(self._data, _COUNT_AT)):
                yield self._record(cursor)
        except (ValueError, IndexError, KeyError) as error:
            raise CorruptRecordException(f"not a record batch: {error!r}") from error
        if not cursor.at_end:
            raise CorruptRecordException("bytes behind the last record of a batch")

    def _record(self, cursor: _Cursor) -> TolerantRecord:
        known = self._known
        end = cursor.varint() + cursor.at
        cursor.varint()  # attributes: none are defined
        timestamp = known.first_timestamp + cursor.varint()
        offset = known.base_offset + cursor.varint()
        key, value = cursor.nullable(), cursor.nullable()
        headers: list[tuple[str, bytes | None]] = []
        for _ in range(cursor.count()):
            raw = cursor.take(cursor.count())
            try:
                name = raw.decode()
            except UnicodeDecodeError:
                name = shown(raw)
                self._bad_names.setdefault(offset, raw)
            headers.append((name, cursor.nullable()))
        if cursor.at != end:
            raise ValueError(f"a record ends at byte {cursor.at} and not at {end}")
        if known.timestamp_type == _LOG_APPEND_TIME:
            timestamp = known.max_timestamp
        return TolerantRecord(offset, timestamp, known.timestamp_type, key, value, tuple(headers))


class TolerantRecords:
    """The batches of one answer to a fetch; stands in for aiokafka's `MemoryRecords`.

    Args:
        data: batches one behind the other; the last one may be cut off.

    Attributes:
        bad_names: the first header name that is not UTF-8 of each record that has one, by offset; of what was read so far.
        taken: how many batches were taken so far.
    """

    def __init__(self, data: bytes) -> None:
        self.bad_names: dict[int, bytes] = {}
        self.taken = 0
        self._data = data
        self._at = 0

    def has_next(self) -> bool:
        """Return whether another whole batch is there."""
        return len(self._data) - self._at >= _RECORDS_AT and self._end <= len(self._data)

    def next_batch(self) -> TolerantBatch:
        """Return the next batch.

        Raises:
            CorruptRecordException: it is of an older message format.
        """
        start, self._at = self._at, self._end
        if self._data[start + _MAGIC_AT] != _MAGIC or self._at - start < _RECORDS_AT:
            raise CorruptRecordException(f"not a batch of message format {_MAGIC}")
        self.taken += 1
        return TolerantBatch(self._data[start : self._at], self.bad_names)

    @property
    def _end(self) -> int:
        length: int = _LENGTH.unpack_from(self._data, self._at + _LENGTH_AT)[0]
        return self._at + _BEHIND_LENGTH + length


class _Cursor:
    """A place in bytes. Nothing is read beyond their end."""

    __slots__ = ("_data", "at")

    def __init__(self, data: bytes) -> None:
        self._data = bytearray(data)
        self.at = 0

    @property
    def at_end(self) -> bool:
        return self.at == len(self._data)

    def varint(self) -> int:
        number, self.at = decode_varint(self._data, self.at)
        return number

    def count(self) -> int:
        """A number that cannot be negative."""
        number = self.varint()
        if number < 0:
            raise ValueError(f"a length of {number}")
        return number

    def take(self, length: int) -> bytes:
        start, self.at = self.at, self.at + length
        if self.at > len(self._data):
            raise IndexError(f"{length} bytes beyond the end")
        return bytes(self._data[start : self.at])

    def nullable(self) -> bytes | None:
        length = self.varint()
        return None if length < 0 else self.take(length)


def shown(name: bytes) -> str:
    r"""Return a header name that is not UTF-8 as text, from which its bytes can be told: `\xff` for a byte, `\\` for `\`."""
    return name.replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")
