cdef class Moment:
    cdef public long long offset
    cdef public object frontier
    cdef public bint enough
    cdef public bint cut


cdef class EventFrontier:
    cdef public bint is_idle
    cdef public long long latest
    cdef public long long out_of_order


cdef class Clock:
    cdef public long long due
    cdef public long long watermark


cdef class NodeTime:
    cdef Clock _clock
    cdef Moment _cursor
    cdef public long long closed
    cdef public long long delay
    cdef public long long reached

    cpdef bint is_late(self, long long end) except -1
    cpdef wake(self, long long at)
