# The quick way of a record into its batch: lanes.py, and what `Producer.send` does when nothing is
# unusual. Nothing in here lets go of the interpreter's lock or runs Python code before the record
# is in its batch, so that a lane which is open stays open meanwhile.

cdef class Lane:
    cdef public object buffer
    cdef Builder _builder
    cdef public Py_ssize_t limit
    cdef public bint open

    def __init__(self, buffer):
        self.buffer = buffer
        self.open = False
        self.limit = 0

    @property
    def builder(self):
        return self._builder

    @builder.setter
    def builder(self, Builder builder not None):
        self._builder = builder


cdef class Lanes:
    cdef public list lanes
    cdef public object sticky

    def __init__(self):
        self.lanes = []
        self.sticky = None


cdef class QuickSend:
    """`send` of a producer whose `topics` are these; whatever is unusual is `slow`'s to do."""

    cdef readonly dict topics
    cdef object _slow
    cdef object _full
    cdef bint _system_time

    def __init__(self, slow, full, *, bint system_time):
        self.topics = {}
        self._slow = slow
        self._full = full
        self._system_time = system_time

    def send(self, topic, value, *, key=None, partition=None, timestamp=None, headers=()):
        cdef Lane lane = None
        cdef Py_ssize_t size = -1
        if partition is None and headers is () and PyBytes_CheckExact(value):
            lane = self.lane_for(topic, key)
            if lane is not None and lane.open:
                size = self.put(lane, value, key, timestamp)
        if size < 0:
            self._slow(
                topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers
            )
        elif size >= lane.limit:
            self._full(lane.buffer)

    cdef Lane lane_for(self, object topic, object key):
        cdef PyObject *found = PyDict_GetItem(self.topics, topic) if PyUnicode_Check(topic) \
            else NULL
        cdef Lanes lanes
        if found == NULL:
            return None
        lanes = <Lanes?><object>found
        if key is None:
            return lanes.sticky
        if not PyBytes_CheckExact(key) or not lanes.lanes:
            return None
        return <Lane?><object>PyList_GET_ITEM(
            lanes.lanes,
            (murmur2_of(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
             & 0x7FFFFFFF) % <uint32_t>PyList_GET_SIZE(lanes.lanes),
        )

    cdef Py_ssize_t put(self, Lane lane, object value, object key, object timestamp) except -2:
        cdef int64_t time = 0
        cdef timespec now
        if timestamp is not None:
            if not as_int64(timestamp, &time):
                return -1
        elif self._system_time:
            clock_gettime(CLOCK_REALTIME, &now)
            time = <int64_t>now.tv_sec * 1000 + now.tv_nsec // 1_000_000
        else:
            return -1
        if not lane._builder.put(<PyObject *>value, <PyObject *>key, time, NULL):
            return -1
        return lane._builder._size


def are_bytes(values):
    cdef Py_ssize_t i
    if not PyList_CheckExact(values):
        return False
    for i in range(PyList_GET_SIZE(values)):
        if not PyBytes_CheckExact(<object>PyList_GET_ITEM(values, i)) \
                and PyList_GET_ITEM(values, i) != <PyObject *>None:
            return False
    return True


def fill_batches(list builders not None, list values not None, keys, timestamps, Py_ssize_t start,
                 Py_ssize_t limit):
    cdef Py_ssize_t count = PyList_GET_SIZE(values)
    cdef Py_ssize_t among = PyList_GET_SIZE(builders)
    cdef Py_ssize_t i, number = 0
    cdef bint one_time = PyLong_Check(timestamps)
    cdef int64_t time = 0
    cdef PyObject *key = <PyObject *>None
    cdef Builder builder
    if among < 1 or start < 0:
        raise ValueError("no builders, or a negative start")
    if one_time and not as_int64(timestamps, &time):
        pure.require_timestamp(timestamps, 0)
    for i in range(start, count):
        if PyList_GET_SIZE(values) != count or PyList_GET_SIZE(builders) != among:
            raise ValueError("the list changed while it was read")
        if keys is not None:
            key = <PyObject *>keys[i]
            if among > 1:
                number = (murmur2_any(<object>key) & 0x7FFFFFFF) % <uint32_t>among \
                    if key != <PyObject *>None else 0
        builder = <Builder?><object>PyList_GET_ITEM(builders, number)
        if one_time:
            if builder.put(PyList_GET_ITEM(values, i), key, time, NULL):
                if builder._size >= limit:
                    return i + 1, number
                continue
            when = timestamps
        else:
            when = timestamps[i]
        if builder.append(values[i], <object>key, when) >= limit:
            return i + 1, number
    return count, -1
