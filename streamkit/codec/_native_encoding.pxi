# Records and whole batches from columns; pure.py says what each part is.

cdef inline int64_t sized(PyObject *data) noexcept:
    """Bytes that a key or value takes; -1 when it is neither bytes nor None."""
    cdef Py_ssize_t size
    if data == <PyObject *>None:
        return 1
    if not PyBytes_Check(<object>data):
        return -1
    size = PyBytes_GET_SIZE(<object>data)
    if size > MAX_BATCH:
        return -1
    return varint_size(size) + size


cdef inline uint8_t *put_sized(uint8_t *at, PyObject *data) noexcept:
    cdef Py_ssize_t size
    if data == <PyObject *>None:
        at[0] = 1  # the varint of -1
        return at + 1
    size = PyBytes_GET_SIZE(<object>data)
    at = put_varint(at, size)
    memcpy(at, PyBytes_AS_STRING(<object>data), size)
    return at + size


cdef int64_t headers_size(object headers) except -2:
    """Bytes that a record's headers take; -1 when they are not a tuple of (str, bytes | None)."""
    cdef Py_ssize_t length = 0
    cdef Py_ssize_t i
    cdef int64_t total, part
    cdef object pair, name
    if not PyTuple_CheckExact(headers):
        return -1
    total = varint_size(PyTuple_GET_SIZE(headers))
    for i in range(PyTuple_GET_SIZE(headers)):
        pair = <object>PyTuple_GET_ITEM(headers, i)
        if not PyTuple_CheckExact(pair) or PyTuple_GET_SIZE(pair) != 2:
            return -1
        name = <object>PyTuple_GET_ITEM(pair, 0)
        if not PyUnicode_Check(name):
            return -1
        try:
            PyUnicode_AsUTF8AndSize(name, &length)
        except UnicodeEncodeError:
            return -1
        part = sized(<PyObject *>PyTuple_GET_ITEM(pair, 1))
        if part < 0 or length > MAX_BATCH:
            return -1
        total += varint_size(length) + length + part
    return total


cdef uint8_t *put_headers(uint8_t *at, object headers) except NULL:
    # Strings keep their UTF-8 form once it was asked for, so that nothing is allocated here.
    cdef Py_ssize_t length = 0
    cdef Py_ssize_t i
    cdef const char *text
    cdef object pair
    at = put_varint(at, PyTuple_GET_SIZE(headers))
    for i in range(PyTuple_GET_SIZE(headers)):
        pair = <object>PyTuple_GET_ITEM(headers, i)
        text = PyUnicode_AsUTF8AndSize(<object>PyTuple_GET_ITEM(pair, 0), &length)
        at = put_varint(at, length)
        memcpy(at, text, length)
        at = put_sized(at + length, <PyObject *>PyTuple_GET_ITEM(pair, 1))
    return at


cdef inline int64_t record_size(int64_t time_delta, int64_t delta, PyObject *key,
                                PyObject *value, PyObject *headers) except -2:
    """The number that a record begins with; -1 when something is not what a record can hold."""
    cdef int64_t of_key = sized(key)
    cdef int64_t of_value = sized(value)
    cdef int64_t of_headers = 1
    if of_key < 0 or of_value < 0:
        return -1
    if headers != NULL:
        of_headers = headers_size(<object>headers)
        if of_headers < 0:
            return -1
    return 1 + varint_size(time_delta) + varint_size(delta) + of_key + of_value + of_headers


cdef inline uint8_t *put_record(uint8_t *at, int64_t size, int64_t time_delta, int64_t delta,
                                PyObject *key, PyObject *value, PyObject *headers) except NULL:
    at = put_varint(at, size)
    at[0] = 0
    at = put_varint(at + 1, time_delta)
    at = put_varint(at, delta)
    at = put_sized(at, key)
    at = put_sized(at, value)
    if headers != NULL:
        return put_headers(at, <object>headers)
    at[0] = 0
    return at + 1


cdef int sealed(uint8_t *at, Py_ssize_t size, int64_t count, int64_t base_timestamp,
                int64_t max_timestamp) except -1:
    """Fill in the header, the checksum last, of a plain batch that lies at `at`.

    Leader epoch 0 and no producer: what `seal` writes when it is told nothing else.
    """
    put(at, 0, 8)
    put(at + 8, size - 12, 4)
    put(at + 12, 0, 4)
    at[16] = 2
    put(at + 21, 0, 2)
    put(at + 23, count - 1, 4)
    put(at + 27, <uint64_t>base_timestamp, 8)
    put(at + 35, <uint64_t>max_timestamp, 8)
    put(at + 43, <uint64_t>-1, 8)
    put(at + 51, <uint64_t>-1, 2)
    put(at + 53, <uint64_t>-1, 4)
    put(at + 57, count, 4)
    put(at + 17, crc32c_of(at + CRC_START, size - CRC_START), 4)
    return 0


cdef inline PyObject *item(object sequence, Py_ssize_t i) noexcept:
    return PyList_GET_ITEM(sequence, i) if PyList_CheckExact(sequence) \
        else <PyObject *>PyTuple_GET_ITEM(sequence, i)


cdef inline bint is_column(object sequence, Py_ssize_t count) noexcept:
    if PyList_CheckExact(sequence):
        return PyList_GET_SIZE(sequence) == count
    return PyTuple_CheckExact(sequence) and PyTuple_GET_SIZE(sequence) == count


cdef struct Sizes:
    int64_t time_delta
    int64_t size


def encode(
    values,
    *,
    timestamps,
    keys=None,
    headers=None,
    compression="none",
    leader_epoch=0,
    producer_id=-1,
    producer_epoch=-1,
    base_sequence=-1,
    transactional=False,
    control=False,
):
    batch = None
    if (PyList_CheckExact(values) or PyTuple_CheckExact(values)) and len(values) > 0:
        plain = (
            compression == "none"
            and leader_epoch == 0
            and producer_id == producer_epoch == base_sequence == -1
            and not transactional
            and not control
        )
        batch = encode_columns(values, keys, timestamps, headers, plain)
    if batch is None:
        return pure.encode(
            values,
            timestamps=timestamps,
            keys=keys,
            headers=headers,
            compression=compression,
            leader_epoch=leader_epoch,
            producer_id=producer_id,
            producer_epoch=producer_epoch,
            base_sequence=base_sequence,
            transactional=transactional,
            control=control,
        )
    if plain:
        return batch
    encoded, base_timestamp, max_timestamp = batch
    codec_number(compression)
    require_room(len(encoded), compression)
    return seal(
        encoded,
        count=len(values),
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        compression=compression,
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        transactional=transactional,
        control=control,
    )


cdef object encode_columns(object values, object keys, object timestamps, object headers,
                           bint plain):
    """A whole plain batch; or the records alone, with their first and largest timestamp.

    None when the input is not lists and tuples of what belongs in them, all of one length.
    """
    cdef Py_ssize_t count = len(values)
    cdef Py_ssize_t i
    cdef int64_t base = 0, largest = 0, timestamp = 0, total = 0, size
    cdef bint one_time = PyLong_Check(timestamps)
    cdef PyObject *none = <PyObject *>None
    cdef Sizes *plan
    cdef uint8_t *start
    cdef uint8_t *at
    cdef object out
    if keys is not None and not is_column(keys, count):
        return None
    if headers is not None and not is_column(headers, count):
        return None
    if one_time:
        if not as_int64(timestamps, &base):
            return None
        largest = base
    elif not is_column(timestamps, count) or not as_int64(<object>item(timestamps, 0), &base):
        return None
    if count > MAX_BATCH // SHORTEST_RECORD:
        return None
    plan = <Sizes *>PyMem_Malloc(count * sizeof(Sizes))
    if plan == NULL:
        raise MemoryError
    try:
        # Nothing from here to the end runs Python code or allocates what the garbage collector
        # counts, so the lists are in the second pass what they were in the first.
        largest = base
        for i in range(count):
            plan[i].time_delta = 0
            if not one_time:
                if not as_int64(<object>item(timestamps, i), &timestamp):
                    return None
                plan[i].time_delta = timestamp - base
                if timestamp > largest:
                    largest = timestamp
            size = record_size(
                plan[i].time_delta,
                i,
                none if keys is None else item(keys, i),
                item(values, i),
                NULL if headers is None else item(headers, i),
            )
            if size < 0:
                return None
            plan[i].size = size
            total += varint_size(size) + size
            if total > MAX_BATCH - HEADER_BYTES:
                return None
        out = PyBytes_FromStringAndSize(NULL, total + (HEADER_BYTES if plain else 0))
        start = <uint8_t *>PyBytes_AS_STRING(out)
        at = start + (HEADER_BYTES if plain else 0)
        for i in range(count):
            at = put_record(
                at,
                plan[i].size,
                plan[i].time_delta,
                i,
                none if keys is None else item(keys, i),
                item(values, i),
                NULL if headers is None else item(headers, i),
            )
    finally:
        PyMem_Free(plan)
    if not plain:
        return out, base, largest
    sealed(start, at - start, count, base, largest)
    return out
