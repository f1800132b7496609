# CRC-32C of bytes where they lie.

cdef class Span:
    """Bytes for the length of one call that keeps nothing. It is no view that could be let go of:
    the checksum's C function takes only what cannot be.
    """

    cdef const uint8_t *_at
    cdef Py_ssize_t _size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, <void *>self._at, self._size, 1, flags)


cdef bint _IN_PLACE = google_crc32c.implementation == "c"


cdef uint32_t crc32c_of(const uint8_t *at, Py_ssize_t size) except? 0:
    cdef Span span
    if not _IN_PLACE:
        return <uint32_t>_crc32c(PyBytes_FromStringAndSize(<const char *>at, size))
    span = Span.__new__(Span)
    span._at, span._size = at, size
    return <uint32_t>_crc32c(span)
