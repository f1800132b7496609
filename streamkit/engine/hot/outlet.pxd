from streamkit.engine.hot.moment cimport Moment


cdef class Outlet:
    cdef Moment _cursor
    cdef bint _keyed
    cdef Py_ssize_t _large
    cdef object _limits
    cdef Py_ssize_t _mark
    cdef long long _offset
    cdef public list headers
    cdef public list keys
    cdef public list stamps
    cdef readonly object topic
    cdef public list values

    cpdef add(self, key, value, stamp, headers)
