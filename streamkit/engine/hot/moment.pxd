cimport cython


cdef class Moment:
    cdef public long long offset
    cdef public object frontier
    cdef public object origin
    cdef public object root
    cdef public bint enough
    cdef public bint cut


cdef class EventFrontier:
    cdef public bint is_idle
    cdef public long long latest
    cdef public long long out_of_order


cdef class Clock:
    cdef public long long due
    cdef public long long watermark

    @cython.locals(least="long long", most="long long", reached="long long")
    cpdef bint observe(self, frontiers) except -1


cdef class NodeTime:
    cdef Clock _clock
    cdef Moment _cursor
    cdef public long long closed
    cdef public long long delay
    cdef public long long reached

    cpdef bint is_late(self, long long end) except -1
    cpdef wake(self, long long at)
