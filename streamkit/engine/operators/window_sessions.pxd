cimport cython

from streamkit.engine.hot.moment cimport Moment


cdef class Sessions:
    cdef public object time
    cdef object _call
    cdef object _changes
    cdef Moment _cursor
    cdef dict _due
    cdef object _events
    cdef long long _gap
    cdef long long _grace
    cdef object _keys
    cdef object _late
    cdef object _merge
    cdef object _node
    cdef object _plain
    cdef long long _reach
    cdef object _read_key
    cdef object _refold
    cdef object _results
    cdef object _store
    cdef list _times
    cdef object _write_key

    cpdef advance(self)
    cdef list _fetch(self, bytes data, stamp)
    cdef _folded(self, bytes data, list joined, key, value, stamp, headers)
    @cython.locals(due="long long", keys=dict)
    cdef _look_at(self, bytes data, list sessions)
    cdef tuple _given(self, bytes data, tuple one)
    cdef tuple _kept(self, bytes data, list joined, key, value, stamp, headers)
    cdef _begin(self)
    @cython.locals(closed=list)
    cdef bint _close(self, long long watermark) except -1
    @cython.locals(until="long long", number=Py_ssize_t, sessions=list)
    cdef _close_key(self, bytes data, long long watermark, list closed)
    cdef bint _give_changes(self, long long watermark) except -1


cpdef bint _is_changed(tuple one) except -1
@cython.locals(at=Py_ssize_t, after=Py_ssize_t)
cdef tuple _touching(list sessions, long long stamp, long long gap)
@cython.locals(first="long long")
cdef tuple _joined(list joined, long long stamp, long long gap)
