cimport cython

from streamkit.engine.hot.moment cimport Clock, EventFrontier, Moment
from streamkit.engine.hot.steps cimport Step


cdef class Source:
    cdef bint _alone
    cdef object _attribute
    cdef Clock _clock
    cdef Moment _cursor
    cdef EventFrontier _frontier
    cdef object _get
    cdef object _horizon
    cdef bint _keyless
    cdef object _moved
    cdef Step _next
    cdef object _read_key
    cdef object _read_value
    cdef object _source

    @cython.locals(
        cursor=Moment, clock=Clock, frontier=EventFrontier, step=Step, alone=bint, keyless=bint,
        dense=bint, first="long long", offset="long long", row=Py_ssize_t, at="long long",
        late="long long", reached="long long", limit="long long",
    )
    cpdef read(self, columns, Py_ssize_t start, Py_ssize_t stop)


cdef class HandedOver:
    cdef Moment _cursor
    cdef object _frontier
    cdef bint _keyless
    cdef object _moved
    cdef Step _next
    cdef object _read_key
    cdef object _read_value
    cdef object _source

    @cython.locals(
        cursor=Moment, step=Step, keyless=bint, dense=bint, first="long long", offset="long long",
        row=Py_ssize_t,
    )
    cpdef read(self, columns, Py_ssize_t start, Py_ssize_t stop)
