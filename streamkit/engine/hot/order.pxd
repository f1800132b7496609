cimport cython


cdef class Order:
    cdef list _firsts
    cdef list _runs

    @cython.locals(last=list, run=list, at=Py_ssize_t, place=Py_ssize_t, half=Py_ssize_t)
    cpdef add(self, bytes key)
    @cython.locals(run=list, at=Py_ssize_t, place=Py_ssize_t)
    cpdef discard(self, bytes key)
    @cython.locals(
        found=list, run=list, at=Py_ssize_t, start=Py_ssize_t, stop=Py_ssize_t, left=Py_ssize_t
    )
    cpdef list some(self, bytes low, high, Py_ssize_t limit)
    @cython.locals(run=list, at=Py_ssize_t, place=Py_ssize_t)
    cpdef last(self, bytes low, bytes high)
    @cython.locals(at=Py_ssize_t)
    cdef Py_ssize_t _run_of(self, bytes key)
