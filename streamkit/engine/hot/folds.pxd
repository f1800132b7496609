cimport cython

from streamkit.engine.hot.moment cimport Moment, NodeTime
from streamkit.engine.hot.steps cimport Step


cdef class Fold(Step):
    cdef object _call
    cdef Moment _cursor
    cdef dict _fresh
    cdef object _function
    cdef object _store
    cdef object _write

    cdef _written(self, key)
    cdef _fold(self, list cell, key, value)


cdef class Running(Fold):
    cdef object _careful
    cdef object _fetch
    cdef Step _next
    cdef object _result

    @cython.locals(cell=list)
    cpdef give(self, key, value, stamp, headers)


cdef class Tumbling(Fold):
    cdef object _careful
    cdef object _fetch
    cdef dict _opened
    cdef bytes _prefix
    cdef long long _size
    cdef long long _start

    @cython.locals(at="long long", start="long long", cell=list)
    cpdef give(self, key, value, stamp, headers)


cdef class Continuing(Fold):
    cdef object _careful
    cdef long long _gap
    cdef long long _grace
    cdef NodeTime _time

    @cython.locals(
        at="long long", first="long long", last="long long", sessions=list, one=tuple
    )
    cpdef give(self, key, value, stamp, headers)
