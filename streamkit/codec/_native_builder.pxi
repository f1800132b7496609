# The builder of pure.py over memory of its own.

cdef class Builder:
    cdef uint8_t *_start
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _last  # bytes of the batch that was taken before
    cdef Py_ssize_t _size  # the header's room included, which is filled in by build()
    cdef Py_ssize_t _count
    cdef int64_t _base
    cdef int64_t _max
    cdef int64_t _limit
    cdef object _compression

    def __init__(self, compression="none"):
        codec_number(compression)
        self._compression = compression
        self._limit = MAX_BATCH if compression == "none" else _MAX_INFLATED + HEADER_BYTES
        self._size = HEADER_BYTES
        self._count = 0

    def __cinit__(self):
        self._size = HEADER_BYTES

    def __dealloc__(self):
        give_back(self._start, self._capacity)

    def __len__(self):
        return self._count

    @property
    def size(self):
        return self._size

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity
        cdef void *moved
        if self._size + more <= self._capacity:
            return 0
        if self._start == NULL:
            # The next batch will be about as large as the last, and is not to be moved as it grows.
            self._start = take_memory(max(self._size + more, self._last + 1024), &self._capacity)
            return 0
        capacity = max(self._size + more, 2 * self._capacity, 4096)
        moved = PyMem_Realloc(self._start, capacity)
        if moved == NULL:
            raise MemoryError
        self._start = <uint8_t *>moved
        self._capacity = capacity
        return 0

    def append(self, value, key, timestamp, headers=()):
        cdef int64_t time = 0
        cdef PyObject *with_headers = NULL
        if headers is not ():
            with_headers = <PyObject *>headers
        if as_int64(timestamp, &time) and self.put(
            <PyObject *>value, <PyObject *>key, time, with_headers
        ):
            return self._size
        return self.append_unusual(value, key, timestamp, headers)

    cdef bint put(self, PyObject *value, PyObject *key, int64_t time,
                  PyObject *headers) except -1:
        """Add a record; False when it is unusual, and nothing was added. Runs no Python code."""
        cdef int64_t delta = time - self._base if self._count else 0
        cdef int64_t size = record_size(delta, self._count, key, value, headers)
        cdef Py_ssize_t whole
        if size < 0:
            return False
        whole = varint_size(size) + size
        if self._size + whole > self._limit:
            return False
        self.reserve(whole)
        put_record(self._start + self._size, size, delta, self._count, key, value, headers)
        self.grown(whole, time)
        return True

    cdef object append_unusual(self, value, key, timestamp, headers):
        """What is no bytes, int or tuple: `pure` raises the error or encodes it."""
        cdef Py_ssize_t size
        pure.require_timestamp(timestamp, self._count)
        record = pure.encode_record(
            self._count, self._base if self._count else timestamp, timestamp, key, value, headers
        )
        size = len(record)
        require_room(self._size - HEADER_BYTES + size, self._compression)
        self.reserve(size)
        memcpy(self._start + self._size, PyBytes_AS_STRING(record), size)
        self.grown(size, timestamp)
        return self._size

    cdef void grown(self, Py_ssize_t size, int64_t timestamp) noexcept:
        if self._count == 0:
            self._base = self._max = timestamp
        elif timestamp > self._max:
            self._max = timestamp
        self._size += size
        self._count += 1

    cdef int seal(self) except -1:
        """Finish a plain batch where it lies."""
        if self._count == 0:
            raise InvalidRecord("a batch holds at least one record; none were appended")
        sealed(self._start, self._size, self._count, self._base, self._max)
        return 0

    cdef void begin(self) noexcept:
        self._size = HEADER_BYTES
        self._count = 0

    def build(self):
        if self._compression == "none":
            self.seal()
            batch = PyBytes_FromStringAndSize(<const char *>self._start, self._size)
        else:
            batch = self.compressed()
        self.begin()
        return batch

    def take(self):
        if self._compression != "none":
            return memoryview(self.build())
        self.seal()
        taken = taken_of(self._start, self._capacity, self._size)
        self._start, self._capacity, self._last = NULL, 0, self._size
        self.begin()
        return taken

    cdef object compressed(self):
        if self._count == 0:
            raise InvalidRecord("a batch holds at least one record; none were appended")
        return seal(
            PyBytes_FromStringAndSize(
                <const char *>self._start + HEADER_BYTES, self._size - HEADER_BYTES
            ),
            count=self._count,
            base_timestamp=self._base,
            max_timestamp=self._max,
            compression=self._compression,
        )
