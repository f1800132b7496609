# Batches opened, their records found, and columns or Records made of them.

cdef struct Batch:
    const uint8_t *start
    const uint8_t *end
    int64_t base_offset
    int64_t last_delta
    int64_t base_timestamp
    int64_t max_timestamp
    int64_t count
    bint log_append_time


cdef struct Row:
    int64_t delta
    int64_t timestamp
    int64_t header_count
    const uint8_t *key
    int64_t key_size  # -1: None
    const uint8_t *value
    int64_t value_size
    const uint8_t *headers
    const uint8_t *end


cdef class Batches:
    """The batches of one buffer whose records are wanted, opened: checked, copied, inflated."""

    cdef Batch *items
    cdef Py_ssize_t count
    cdef Py_ssize_t capacity
    cdef Py_ssize_t records  # in all of them
    cdef list owned  # the bytes that the items point into

    def __cinit__(self):
        self.owned = []

    def __dealloc__(self):
        PyMem_Free(self.items)

    cdef Batch *add(self) except NULL:
        cdef Py_ssize_t capacity
        cdef void *moved
        if self.count == self.capacity:
            capacity = max(16, 2 * self.capacity)
            moved = PyMem_Realloc(self.items, capacity * sizeof(Batch))
            if moved == NULL:
                raise MemoryError
            self.items = <Batch *>moved
            self.capacity = capacity
        self.count += 1
        return &self.items[self.count - 1]

    cdef bint open(self, const uint8_t *data, Py_ssize_t size, int64_t from_offset) except -1:
        """Open every batch; False when one of them is not as it should be."""
        cdef int64_t length, base, span, count, reached = 0
        cdef uint32_t attributes
        cdef const uint8_t *body
        cdef Batch *batch
        while size > 0:
            if size < HEADER_BYTES:
                return False
            length = <int64_t><int32_t>get(data + 8, 4) + 12
            if data[16] != 2 or length < HEADER_BYTES or length > size:
                return False
            base = <int64_t>get(data, 8)
            copy = PyBytes_FromStringAndSize(<const char *>data + CRC_START, length - CRC_START)
            if <uint32_t>_crc32c(copy) != <uint32_t>get(data + 17, 4):
                return False
            body = <const uint8_t *>PyBytes_AS_STRING(copy)
            attributes = <uint32_t>get(body, 2)
            span = <int64_t><int32_t>get(body + 23 - CRC_START, 4) + 1
            count = <int64_t><int32_t>get(body + 57 - CRC_START, 4)
            if base < reached or span < 1 or base > INT64_MAX - span:
                return False
            if count < 0 or count > span or (attributes & 7) >= <uint32_t>_CODECS:
                return False
            if attributes & 7 == 0 and count * SHORTEST_RECORD > length - HEADER_BYTES:
                return False
            reached = base + span
            if not attributes & 0x20 and reached > from_offset:
                if attributes & 7 and (count or length != HEADER_BYTES):
                    try:
                        inflated = decompress(
                            CODECS[attributes & 7], copy[HEADER_BYTES - CRC_START:]
                        )
                    except ValueError:
                        return False
                    batch = self.add()
                    batch.start = <const uint8_t *>PyBytes_AS_STRING(inflated)
                    batch.end = batch.start + PyBytes_GET_SIZE(inflated)
                    self.owned.append(inflated)
                else:
                    batch = self.add()
                    batch.start = body + HEADER_BYTES - CRC_START
                    batch.end = body + length - CRC_START
                    self.owned.append(copy)
                if count * SHORTEST_RECORD > batch.end - batch.start:
                    return False
                batch.base_offset = base
                batch.last_delta = span - 1
                batch.base_timestamp = <int64_t>get(body + 27 - CRC_START, 8)
                batch.max_timestamp = <int64_t>get(body + 35 - CRC_START, 8)
                batch.count = count
                batch.log_append_time = (attributes & 0x08) != 0
                self.records += count
            data += length
            size -= length
        return True


cdef Batches open_batches(object buf, int64_t from_offset):
    """None when something is wrong with one of the batches."""
    cdef Py_buffer view
    cdef Batches batches = Batches()
    try:
        PyObject_GetBuffer(buf, &view, PyBUF_SIMPLE)
    except BufferError:  # not contiguous
        return None
    try:
        if not batches.open(<const uint8_t *>view.buf, view.len, from_offset):
            return None
    finally:
        PyBuffer_Release(&view)
    return batches


cdef inline const uint8_t *get_row(const uint8_t *at, const Batch *batch, int64_t last_delta,
                                   Row *row) noexcept nogil:
    """Find the parts of the record at `at`; the position after it, or NULL when it is malformed.

    The headers are not looked into.
    """
    cdef int64_t size = 0, time_delta = 0
    cdef const uint8_t *end
    at = get_varint32(at, batch.end, &size)
    if at == NULL or size < SHORTEST_RECORD - 1 or size > batch.end - at:
        return NULL
    end = at + size
    at = get_varint64(at + 1, end, &time_delta)
    if at == NULL:
        return NULL
    at = get_varint32(at, end, &row.delta)
    if at == NULL or row.delta <= last_delta or row.delta > batch.last_delta:
        return NULL
    at = get_varint32(at, end, &row.key_size)
    if at == NULL or row.key_size < -1 or row.key_size > end - at:
        return NULL
    row.key = at
    if row.key_size > 0:
        at += row.key_size
    at = get_varint32(at, end, &row.value_size)
    if at == NULL or row.value_size < -1 or row.value_size > end - at:
        return NULL
    row.value = at
    if row.value_size > 0:
        at += row.value_size
    at = get_varint32(at, end, &row.header_count)
    if at == NULL or row.header_count < 0 or row.header_count > (end - at) // 2:
        return NULL
    if row.header_count == 0 and at != end:
        return NULL
    row.headers = at
    row.end = end
    if batch.log_append_time:
        row.timestamp = batch.max_timestamp
    else:
        if time_delta > 0 and batch.base_timestamp > INT64_MAX - time_delta:
            return NULL
        if time_delta < 0 and batch.base_timestamp < INT64_MIN - time_delta:
            return NULL
        row.timestamp = batch.base_timestamp + time_delta
    return end


cdef tuple get_headers(const Row *row):
    """The record's headers; None when they are malformed."""
    cdef const uint8_t *at = row.headers
    cdef int64_t size = 0
    cdef Py_ssize_t i
    cdef tuple found
    cdef object pair
    if row.header_count == 0:
        return ()
    found = PyTuple_New(row.header_count)
    for i in range(row.header_count):
        at = get_varint32(at, row.end, &size)
        if at == NULL or size < 0 or size > row.end - at:
            return None
        try:
            name = PyUnicode_DecodeUTF8(<const char *>at, size, NULL)
        except UnicodeDecodeError:
            return None
        at = get_varint32(at + size, row.end, &size)
        if at == NULL or size < -1 or size > row.end - at:
            return None
        pair = (name, some_bytes(at, size))
        if size > 0:
            at += size
        Py_INCREF(pair)
        PyTuple_SET_ITEM(found, i, pair)
    return found if at == row.end else None


cdef inline object some_bytes(const uint8_t *at, int64_t size):
    return None if size < 0 else PyBytes_FromStringAndSize(<const char *>at, size)


cdef inline void fill(list column, Py_ssize_t i, object item) noexcept:
    """Set an item of a new list, for the first time."""
    Py_INCREF(item)
    PyList_SET_ITEM(column, i, item)


def columns(buf, from_offset=0):
    cdef Batches batches
    cdef int64_t lowest
    found = None
    if from_offset <= INT64_MAX:
        lowest = max(from_offset, 0)
        batches = open_batches(buf, lowest)
        if batches is not None:
            found = read_columns(batches, lowest)
    return pure.columns(buf, from_offset) if found is None else found


cdef object read_columns(Batches batches, int64_t from_offset):
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t b
    cdef int64_t i, offset, last_delta, first = 0, last = 0, time_before = 0
    cdef list offsets = None
    cdef list timestamps = PyList_New(batches.records)
    cdef list keys = PyList_New(batches.records)
    cdef list values = PyList_New(batches.records)
    cdef list headers = None
    cdef object time = 0
    cdef const uint8_t *at
    cdef const Batch *batch
    cdef Row row
    for b in range(batches.count):
        batch = &batches.items[b]
        at = batch.start
        last_delta = -1
        for i in range(batch.count):
            at = get_row(at, batch, last_delta, &row)
            if at == NULL:
                return None
            last_delta = row.delta
            found = () if row.header_count == 0 else get_headers(&row)
            if found is None:
                return None
            offset = batch.base_offset + row.delta
            if offset < from_offset:
                continue
            if n == 0:
                first = offset
            elif offset != last + 1 and offsets is None:
                offsets = list(range(first, last + 1))
            last = offset
            if offsets is not None:
                offsets.append(offset)
            if row.timestamp != time_before:  # often the same; an int need not be made each time
                time_before = row.timestamp
                time = time_before
            fill(timestamps, n, time)
            fill(keys, n, some_bytes(row.key, row.key_size))
            fill(values, n, some_bytes(row.value, row.value_size))
            if row.header_count and headers is None:
                headers = [()] * n
            if headers is not None:
                headers.append(found)
            n += 1
        if at != batch.end:
            return None
    if n < batches.records:
        del timestamps[n:], keys[n:], values[n:]
    if n == 0:
        offsets = []
    return Columns(range(first, last + 1) if offsets is None else offsets, timestamps, keys,
                   values, headers)


def records(buf, topic, partition, from_offset=0):
    cdef Batches batches
    cdef int64_t lowest
    found = None
    if from_offset <= INT64_MAX:
        lowest = max(from_offset, 0)
        batches = open_batches(buf, lowest)
        if batches is not None:
            found = read_records(batches, topic, partition, lowest)
    return pure.records(buf, topic, partition, from_offset) if found is None else found


cdef list read_records(Batches batches, object topic, object partition, int64_t from_offset):
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t b
    cdef int64_t i, offset, last_delta, time_before = 0
    cdef list out = PyList_New(batches.records)
    cdef object time = 0
    cdef const uint8_t *at
    cdef const Batch *batch
    cdef Row row
    for b in range(batches.count):
        batch = &batches.items[b]
        at = batch.start
        last_delta = -1
        for i in range(batch.count):
            at = get_row(at, batch, last_delta, &row)
            if at == NULL:
                return None
            last_delta = row.delta
            headers = () if row.header_count == 0 else get_headers(&row)
            if headers is None:
                return None
            offset = batch.base_offset + row.delta
            if offset < from_offset:
                continue
            if row.timestamp != time_before:
                time_before = row.timestamp
                time = time_before
            fill(out, n, make_record(
                topic,
                partition,
                offset,
                time,
                some_bytes(row.key, row.key_size),
                some_bytes(row.value, row.value_size),
                headers,
            ))
            n += 1
        if at != batch.end:
            return None
    if n < batches.records:
        del out[n:]
    return out
