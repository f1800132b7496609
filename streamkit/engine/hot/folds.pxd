cimport cython

from streamkit.engine.hot.moment cimport Moment, NodeTime
from streamkit.engine.hot.steps cimport Step


cdef class Running(Step):
    cdef object _call
    cdef object _careful
    cdef Moment _cursor
    cdef object _fetch
    cdef dict _fresh
    cdef object _function
    cdef Step _next
    cdef object _result
    cdef object _store
    cdef object _write

    @cython.locals(cell=list)
    cpdef give(self, key, value, stamp, headers)
    cdef _fold(self, list cell, key, value)


cdef class Tumbling(Step):
    cdef object _call
    cdef object _careful
    cdef Moment _cursor
    cdef object _fetch
    cdef dict _fresh
    cdef object _function
    cdef dict _opened
    cdef bytes _prefix
    cdef long long _size
    cdef long long _start
    cdef object _store
    cdef object _write

    @cython.locals(at="long long", start="long long", cell=list)
    cpdef give(self, key, value, stamp, headers)


cdef class Continuing(Step):
    cdef object _call
    cdef object _careful
    cdef Moment _cursor
    cdef dict _fresh
    cdef object _function
    cdef long long _gap
    cdef long long _grace
    cdef object _store
    cdef NodeTime _time
    cdef object _write

    @cython.locals(
        at="long long", first="long long", last="long long", sessions=list, one=tuple
    )
    cpdef give(self, key, value, stamp, headers)
