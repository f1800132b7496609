cimport cython

from streamkit.engine.hot.moment cimport Moment
from streamkit.engine.hot.outlet cimport Outlet


cdef class Step:
    cpdef give(self, key, value, stamp, headers)


cdef class Call(Step):
    cdef object _call
    cpdef give(self, key, value, stamp, headers)


cdef class All(Step):
    cdef list _steps
    @cython.locals(step=Step)
    cpdef give(self, key, value, stamp, headers)


cdef class Filter(Step):
    cdef object _call
    cdef object _function
    cdef Moment _cursor
    cdef Step _next
    @cython.locals(keep=bint)
    cpdef give(self, key, value, stamp, headers)


cdef class Map(Step):
    cdef object _call
    cdef object _function
    cdef Moment _cursor
    cdef Step _next
    cdef bint _optional
    cpdef give(self, key, value, stamp, headers)


cdef class By(Step):
    cdef object _call
    cdef object _function
    cdef Moment _cursor
    cdef Step _next
    cpdef give(self, key, value, stamp, headers)


cdef class Lookup(Step):
    cdef dict _at_hand
    cdef object _call
    cdef object _careful
    cdef object _function
    cdef Moment _cursor
    cdef Step _next
    cdef bint _inner
    cdef object _row
    cdef object _write
    cpdef give(self, key, value, stamp, headers)


cdef class Writer:
    cdef object _careful
    cdef object _decode
    cdef object _dump
    cdef long long _first
    cdef long long _left
    cdef bint _text
    cdef object _type
    cpdef write(self, value)


cdef class Write(Step):
    cdef Moment _cursor
    cdef Outlet _outlet
    cdef Writer _key
    cdef Writer _value
    cpdef give(self, key, value, stamp, headers)


cdef class HandOver(Write):
    cdef object _count
    cdef object _delay
    cdef bint _drawn
    cdef object _last
    cpdef origin(self)
    cpdef _root(self)
    cpdef give(self, key, value, stamp, headers)


cdef class HandOverFrom(HandOver):
    cdef object _number
    cdef object _of
    cpdef origin(self)
