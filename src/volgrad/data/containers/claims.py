"""How large the compressed buffers of Arrow IPC messages claim to be, found without unpacking any.

pyarrow allocates whatever a buffer claims. The claim stands in the first 8 bytes of each compressed buffer; where the
buffers are, the message's flatbuffer says (Arrow columnar format, sections on encapsulated messages and body
compression).
"""

import struct

import pyarrow as pa
import pyarrow.ipc

__all__ = ["claimed_bytes"]

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
_LENGTH = struct.Struct("<q")


def claimed_bytes(messages: pa.NativeFile) -> int:
    """Bytes that all compressed buffers of a stream of messages claim to unpack to.

    Raises:
        pyarrow.ArrowInvalid: a message is damaged.
    """
    total = 0
    reader = pyarrow.ipc.MessageReader.open_stream(messages)
    try:
        for message in reader:
            total += _claimed(message.metadata.to_pybytes(), message.body)
    except (struct.error, IndexError) as error:
        raise pa.ArrowInvalid(f"a message that points outside itself ({error})") from error
    return total


def _claimed(metadata: bytes, body: pa.Buffer | None) -> int:
    root = _uint32(metadata, 0)
    kind, header = _slot(metadata, root, 1), _slot(metadata, root, 2)
    if not kind or not header or body is None or metadata[kind] not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        return 0
    batch = header + _uint32(metadata, header)
    if metadata[kind] == _DICTIONARY_BATCH:
        data = _slot(metadata, batch, 1)
        batch = data + _uint32(metadata, data)
    buffers = _slot(metadata, batch, 2)
    if not buffers or not _slot(metadata, batch, 3):  # no compression
        return 0
    start = buffers + _uint32(metadata, buffers)
    total, view = 0, memoryview(body)
    for index in range(_uint32(metadata, start)):
        offset, length = struct.unpack_from("<qq", metadata, start + 4 + 16 * index)
        if length >= _LENGTH.size:
            total += max(_LENGTH.unpack_from(view, offset)[0], 0)  # -1: left as it is
    return total


def _slot(data: bytes, table: int, index: int) -> int:
    """Place of a flatbuffer table's field, 0 where it has none."""
    listed = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * index >= struct.unpack_from("<H", data, listed)[0]:
        return 0
    inside = struct.unpack_from("<H", data, listed + 4 + 2 * index)[0]
    return table + inside if inside else 0


def _uint32(data: bytes, place: int) -> int:
    return struct.unpack_from("<I", data, place)[0]
