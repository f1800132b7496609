# Batches in the memory that they were made in, which comes round again. Memory that is asked for and
# given back batch by batch costs more than filling it: the system takes it back, and each of its
# pages is faulted in anew.

cdef enum:
    SPARE = 8
    LARGEST_SPARE = 327680  # bytes: the batches of apps are such

cdef uint8_t *_spare[SPARE]
cdef Py_ssize_t _spare_bytes[SPARE]
cdef int _spares = 0


cdef uint8_t *take_memory(Py_ssize_t least, Py_ssize_t *capacity) except NULL:
    """Memory of at least so many bytes, and how many it has."""
    global _spares
    cdef uint8_t *memory = NULL
    if _spares:
        _spares -= 1
        capacity[0] = _spare_bytes[_spares]
        if capacity[0] >= least:
            return _spare[_spares]
        PyMem_Free(_spare[_spares])  # so that in the end those are kept that serve
    capacity[0] = max(least, 4096)
    memory = <uint8_t *>PyMem_Malloc(capacity[0])
    if memory == NULL:
        raise MemoryError
    return memory


cdef void give_back(uint8_t *memory, Py_ssize_t capacity) noexcept:
    global _spares
    if memory != NULL and capacity <= LARGEST_SPARE and _spares < SPARE:
        _spare[_spares], _spare_bytes[_spares] = memory, capacity
        _spares += 1
    else:
        PyMem_Free(memory)


cdef class Taken:
    """What `Builder.take` gives a view of: whoever has it cannot change a byte.

    So it is still what was sealed, and `check` need not look at it again.
    """

    cdef uint8_t *_start
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _size
    cdef object header

    def __dealloc__(self):
        give_back(self._start, self._capacity)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self._start, self._size, 1, flags)


cdef object taken_of(uint8_t *memory, Py_ssize_t capacity, Py_ssize_t size):
    """A view of a finished batch, which then owns its memory; after an error the caller does."""
    cdef Taken taken = Taken.__new__(Taken)
    taken.header = header_at(memory)
    taken._start, taken._capacity, taken._size = memory, capacity, size
    try:
        return memoryview(taken)
    except BaseException:
        taken._start = NULL
        raise


cdef Taken all_of_taken(object view):
    """What `view` is a view of, if that is a batch that a builder gave, all of it; else None."""
    cdef Py_buffer *seen
    cdef Taken taken
    if not PyMemoryView_Check(view):
        return None
    seen = PyMemoryView_GET_BUFFER(view)
    if <PyObject *>seen.obj == NULL or type(seen.obj) is not Taken:
        return None
    taken = <Taken>seen.obj
    return taken if seen.buf == taken._start and seen.len == taken._size else None


def of_producer(batch, producer_id, producer_epoch, base_sequence, *, transactional=False):
    cdef Taken plain = all_of_taken(batch)
    cdef int64_t number = 0, epoch = 0, sequence = 0
    cdef Py_ssize_t capacity = 0
    cdef uint8_t *memory
    if (
        plain is None
        or not as_int64(producer_id, &number)
        or not as_int64(producer_epoch, &epoch)
        or not as_int64(base_sequence, &sequence)
        or epoch > INT16_MAX
        or sequence > INT32_MAX
    ):
        return of_any_producer(
            batch, producer_id, producer_epoch, base_sequence, transactional=transactional
        )
    memory = take_memory(plain._size, &capacity)
    try:
        memcpy(memory, plain._start, plain._size)
        if transactional:
            memory[22] |= TRANSACTIONAL
        put(memory + 43, <uint64_t>number, 8)
        put(memory + 51, <uint64_t>epoch, 2)
        put(memory + 53, <uint64_t>sequence, 4)
        put(memory + 17, crc32c_of(memory + CRC_START, plain._size - CRC_START), 4)
        return taken_of(memory, capacity, plain._size)
    except BaseException:
        give_back(memory, capacity)
        raise
