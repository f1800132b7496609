# The check of one batch that is about to be appended: header.py says what each field is.

def check(buf, Py_ssize_t position=0):
    cdef Py_buffer view
    cdef object header
    cdef Taken taken = all_of_taken(buf) if position == 0 else None
    if taken is not None:
        return taken.header
    if PyBytes_CheckExact(buf):
        header = checked(
            <const uint8_t *>PyBytes_AS_STRING(buf), PyBytes_GET_SIZE(buf), position
        )
    else:
        PyObject_GetBuffer(buf, &view, PyBUF_SIMPLE)
        try:
            header = checked(<const uint8_t *>view.buf, view.len, position)
        finally:
            PyBuffer_Release(&view)
    return check_unusual(buf, position) if header is None else header


cdef object checked(const uint8_t *start, Py_ssize_t size, Py_ssize_t position):
    """The header of the batch at `position`; None when something is not as it should be."""
    cdef const uint8_t *at = start + position
    cdef int64_t length, base, span, count
    cdef int attributes
    if position < 0 or size - position < HEADER_BYTES or at[16] != 2:
        return None
    length = <int64_t><int32_t>get(at + 8, 4) + 12
    if length < HEADER_BYTES or length > size - position:
        return None
    base = <int64_t>get(at, 8)
    attributes = <int16_t>get(at + 21, 2)
    span = <int64_t><int32_t>get(at + 23, 4) + 1
    count = <int64_t><int32_t>get(at + 57, 4)
    if base < 0 or span < 1 or base > INT64_MAX - span or count < 0 or count > span:
        return None
    if attributes & 7 >= _CODECS:
        return None
    if attributes & 7 == 0 and count * SHORTEST_RECORD > length - HEADER_BYTES:
        return None
    if crc32c_of(at + CRC_START, length - CRC_START) != <uint32_t>get(at + 17, 4):
        return None
    return header_at(at)


cdef object header_at(const uint8_t *at):
    """The fields as they stand."""
    return BatchHeader(
        <int64_t>get(at, 8),
        <int64_t><int32_t>get(at + 8, 4) + 12,
        <int32_t>get(at + 12, 4),
        <uint32_t>get(at + 17, 4),
        <int16_t>get(at + 21, 2),
        <int64_t><int32_t>get(at + 23, 4),
        <int64_t>get(at + 27, 8),
        <int64_t>get(at + 35, 8),
        <int64_t>get(at + 43, 8),
        <int16_t>get(at + 51, 2),
        <int32_t>get(at + 53, 4),
        <int64_t><int32_t>get(at + 57, 4),
    )
