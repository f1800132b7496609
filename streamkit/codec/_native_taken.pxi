# Batches in the memory that they were made in, which comes round again. Memory that is asked for and
# given back batch by batch costs more than filling it: the system takes it back, and each of its
# pages is faulted in anew.

cdef enum:
    SPARE = 8
    LARGEST_SPARE = 262144  # bytes

cdef uint8_t *_spare[SPARE]
cdef Py_ssize_t _spare_bytes[SPARE]
cdef int _spares = 0


cdef uint8_t *take_memory(Py_ssize_t least, Py_ssize_t *capacity) except NULL:
    """Memory of at least so many bytes, and how many it has."""
    global _spares
    cdef uint8_t *memory = NULL
    if _spares and _spare_bytes[_spares - 1] >= least:
        _spares -= 1
        capacity[0] = _spare_bytes[_spares]
        return _spare[_spares]
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


cdef object header_of_taken(object view):
    """The header of the batch, if `view` is all of what a builder gave; else None."""
    cdef Py_buffer *seen
    cdef Taken taken
    if not PyMemoryView_Check(view):
        return None
    seen = PyMemoryView_GET_BUFFER(view)
    if <PyObject *>seen.obj == NULL or type(seen.obj) is not Taken:
        return None
    taken = <Taken>seen.obj
    return taken.header if seen.buf == taken._start and seen.len == taken._size else None
