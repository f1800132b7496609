# cython: language_level=3
"""Record batches, compiled: `pure.py` for the case that everything is as it should be.

Wherever something is not (a wrong type, a length that lies, a number out of range) nothing is
decided here: the same call is made to `pure`, which raises the error or, for the rare input that is
right but unusual, gives the answer. So the errors of both are the same, and only what both accept
has to be alike.

What is read is copied once and only the copy is checked and decoded: memory that somebody else
writes to meanwhile cannot get between a check and its use. Every pointer is held against the end of
its record before it is followed.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_Check,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport INT32_MAX, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from google_crc32c import value as _crc32c

from streamkit.codec import pure
from streamkit.codec.batch import require_room, seal
from streamkit.codec.compression import CODECS, MAX_INFLATED, codec_number, decompress
from streamkit.errors import InvalidRecord
from streamkit.records import Columns, Record

cdef extern from *:
    """
    #include <structmember.h>

    /* Where objects of `type` keep the attribute behind `descr`; 0 when that is not a plain slot. */
    static Py_ssize_t slot_offset(PyTypeObject *type, PyObject *descr) {
        PyMemberDef *member;
        if (!PyObject_TypeCheck(descr, &PyMemberDescr_Type)) return 0;
        if (PyDescr_TYPE(descr) != type) return 0;
        member = ((PyMemberDescrObject *)descr)->d_member;
        if (member->type != T_OBJECT_EX) return 0;
        if (member->offset < (Py_ssize_t)sizeof(PyObject)) return 0;
        if (member->offset + (Py_ssize_t)sizeof(PyObject *) > type->tp_basicsize) return 0;
        return member->offset;
    }
    static int is_plain(PyTypeObject *type) {
        return type->tp_itemsize == 0 && !(type->tp_flags & Py_TPFLAGS_HAVE_GC);
    }
    #define allocate(type) ((type)->tp_alloc((type), 0))
    #define set_slot(object, offset, value) \
        (*(PyObject **)((char *)(object) + (offset)) = (value))
    """
    Py_ssize_t slot_offset(PyTypeObject *type, PyObject *descr)
    bint is_plain(PyTypeObject *type)
    object allocate(PyTypeObject *type)
    void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value)

cdef extern from "Python.h":
    # Declared here where cpython's own declarations would raise or count references needlessly.
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    bint PyUnicode_Check(object o)
    bint PyTuple_CheckExact(object o)
    PyObject *PyList_GET_ITEM(object l, Py_ssize_t i)
    bint PyList_CheckExact(object o)
    Py_ssize_t PyList_GET_SIZE(object l)

cdef enum:
    HEADER_BYTES = 61
    CRC_START = 21
    SHORTEST_RECORD = 7
    MAX_BATCH = 2147483647

cdef int _CODECS = len(CODECS)
cdef int64_t _MAX_INFLATED = MAX_INFLATED


# Numbers ---------------------------------------------------------------------------------------

cdef inline uint64_t get(const uint8_t *at, int size) noexcept nogil:
    cdef uint64_t number = 0
    cdef int i
    for i in range(size):
        number = number << 8 | at[i]
    return number


cdef inline void put(uint8_t *at, uint64_t number, int size) noexcept nogil:
    cdef int i
    for i in range(size):
        at[i] = <uint8_t>(number >> (8 * (size - 1 - i)))


cdef inline uint64_t zigzag(int64_t number) noexcept nogil:
    return (<uint64_t>number << 1) ^ <uint64_t>(number >> 63)


cdef inline int varint_size(int64_t number) noexcept nogil:
    cdef uint64_t rest = zigzag(number)
    cdef int size = 1
    while rest > 0x7F:
        rest >>= 7
        size += 1
    return size


cdef inline uint8_t *put_varint(uint8_t *at, int64_t number) noexcept nogil:
    cdef uint64_t rest = zigzag(number)
    while rest > 0x7F:
        at[0] = <uint8_t>(rest | 0x80)
        at += 1
        rest >>= 7
    at[0] = <uint8_t>rest
    return at + 1


cdef const uint8_t *long_varint(const uint8_t *at, const uint8_t *end, int64_t *out,
                                int bits) noexcept nogil:
    """The position after the varint; NULL when it is cut off by `end` or longer than `bits`."""
    cdef uint64_t result = 0
    cdef int shift = 0
    cdef uint8_t byte
    while at < end:
        byte = at[0]
        at += 1
        # The last byte may have only the bits that are left: 4 of 32, 1 of 64.
        if shift + 7 > bits and byte >> (bits - shift):
            return NULL
        result |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            out[0] = <int64_t>(result >> 1) ^ -<int64_t>(result & 1)
            return at
        shift += 7
    return NULL


cdef inline const uint8_t *get_varint32(const uint8_t *at, const uint8_t *end,
                                        int64_t *out) noexcept nogil:
    if at < end and at[0] < 0x80:
        out[0] = <int64_t>(at[0] >> 1) ^ -<int64_t>(at[0] & 1)
        return at + 1
    return long_varint(at, end, out, 32)


cdef inline const uint8_t *get_varint64(const uint8_t *at, const uint8_t *end,
                                        int64_t *out) noexcept nogil:
    if at < end and at[0] < 0x80:
        out[0] = <int64_t>(at[0] >> 1) ^ -<int64_t>(at[0] & 1)
        return at + 1
    return long_varint(at, end, out, 64)


cdef inline bint as_int64(object number, int64_t *out) except -1:
    """Whether `number` is an int that a timestamp can be."""
    cdef int overflow = 0
    if not PyLong_Check(number):
        return False
    out[0] = PyLong_AsLongLongAndOverflow(number, &overflow)
    return overflow == 0 and out[0] >= -1


# Encoding --------------------------------------------------------------------------------------

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
    put(at + 17, <uint32_t>_crc32c(PyBytes_FromStringAndSize(
        <const char *>at + CRC_START, size - CRC_START)), 4)
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


cdef class Builder:
    cdef uint8_t *_start
    cdef Py_ssize_t _capacity
    cdef Py_ssize_t _size  # the header's room included, which is filled in by build()
    cdef Py_ssize_t _count
    cdef int64_t _base
    cdef int64_t _max
    cdef int64_t _limit
    cdef object _compression

    def __init__(self, compression="none"):
        codec_number(compression)
        self._compression = compression
        self._limit = MAX_BATCH if compression == "none" else _MAX_INFLATED + HEADER_BYTES
        self._size = HEADER_BYTES
        self._count = 0

    def __cinit__(self):
        self._size = HEADER_BYTES

    def __dealloc__(self):
        PyMem_Free(self._start)

    def __len__(self):
        return self._count

    @property
    def size(self):
        return self._size

    cdef int reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity
        cdef void *moved
        if self._size + more <= self._capacity:
            return 0
        capacity = max(self._size + more, 2 * self._capacity, 4096)
        moved = PyMem_Realloc(self._start, capacity)
        if moved == NULL:
            raise MemoryError
        self._start = <uint8_t *>moved
        self._capacity = capacity
        return 0

    def append(self, value, key, timestamp, headers=()):
        cdef int64_t time = 0, delta, size
        cdef Py_ssize_t whole
        cdef PyObject *with_headers = NULL
        if headers is not ():
            with_headers = <PyObject *>headers
        if not as_int64(timestamp, &time):
            return self.append_unusual(value, key, timestamp, headers)
        delta = time - self._base if self._count else 0
        size = record_size(
            delta, self._count, <PyObject *>key, <PyObject *>value, with_headers
        )
        if size < 0:
            return self.append_unusual(value, key, timestamp, headers)
        whole = varint_size(size) + size
        if self._size + whole > self._limit:
            return self.append_unusual(value, key, timestamp, headers)
        self.reserve(whole)
        put_record(self._start + self._size, size, delta, self._count, <PyObject *>key,
                   <PyObject *>value, with_headers)
        self.grown(whole, time)
        return self._size

    cdef object append_unusual(self, value, key, timestamp, headers):
        """What is no bytes, int or tuple: `pure` raises the error or encodes it."""
        cdef Py_ssize_t size
        pure.require_timestamp(timestamp, self._count)
        record = pure.encode_record(
            self._count, self._base if self._count else timestamp, timestamp, key, value, headers
        )
        size = len(record)
        require_room(self._size - HEADER_BYTES + size, self._compression)
        self.reserve(size)
        memcpy(self._start + self._size, PyBytes_AS_STRING(record), size)
        self.grown(size, timestamp)
        return self._size

    cdef void grown(self, Py_ssize_t size, int64_t timestamp) noexcept:
        if self._count == 0:
            self._base = self._max = timestamp
        elif timestamp > self._max:
            self._max = timestamp
        self._size += size
        self._count += 1

    def build(self):
        if self._count == 0:
            raise InvalidRecord("a batch holds at least one record; none were appended")
        if self._compression == "none":
            sealed(self._start, self._size, self._count, self._base, self._max)
            batch = PyBytes_FromStringAndSize(<const char *>self._start, self._size)
        else:
            batch = seal(
                PyBytes_FromStringAndSize(
                    <const char *>self._start + HEADER_BYTES, self._size - HEADER_BYTES
                ),
                count=self._count,
                base_timestamp=self._base,
                max_timestamp=self._max,
                compression=self._compression,
            )
        self._size = HEADER_BYTES
        self._count = 0
        return batch


# Decoding --------------------------------------------------------------------------------------

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


# Records ---------------------------------------------------------------------------------------
#
# Calling the class costs several times what decoding the record does. A Record is a plain object
# with one slot per field, so it is allocated by its type and the slots are set, where the class
# itself says they are. That is tried out once, at import; if a future msgspec lays its objects out
# in another way, the class is called instead.

cdef Py_ssize_t[7] _slots
cdef PyTypeObject *_type = <PyTypeObject *>Record
cdef bint _direct = False


cdef inline void give(object record, int slot, object item) noexcept:
    Py_INCREF(item)
    set_slot(<PyObject *>record, _slots[slot], <PyObject *>item)


cdef inline object make_record(object topic, object partition, object offset, object timestamp,
                               object key, object value, object headers):
    cdef object record
    if not _direct:
        return Record(topic, partition, offset, timestamp, key, value, headers)
    record = allocate(_type)
    give(record, 0, topic)
    give(record, 1, partition)
    give(record, 2, offset)
    give(record, 3, timestamp)
    give(record, 4, key)
    give(record, 5, value)
    give(record, 6, headers)
    return record


cdef bint find_slots() except -1:
    """Whether records can be made without calling their class."""
    global _direct
    cdef int i
    names = Record.__struct_fields__
    wanted = ("topic", "partition", "offset", "timestamp", "key", "value", "headers")
    if names != wanted or not is_plain(_type) or hasattr(Record, "__post_init__"):
        return False
    for i in range(7):
        slot = Record.__dict__.get(wanted[i])
        _slots[i] = 0 if slot is None else slot_offset(_type, <PyObject *>slot)
        if _slots[i] == 0:
            return False
    headers = (("name", b"value"),)
    called = Record("topic", 1, 2, 3, b"key", None, headers)
    _direct = True
    made = make_record("topic", 1, 2, 3, b"key", None, headers)
    _direct = False
    return type(made) is Record and made == called and repr(made) == repr(called)


_direct = find_slots()


def makes_records_directly():
    return bool(_direct)


# Partitions ------------------------------------------------------------------------------------

cdef uint32_t murmur2_of(const uint8_t *data, Py_ssize_t size) noexcept nogil:
    cdef uint32_t m = 0x5BD1E995
    cdef uint32_t h = <uint32_t>0x9747B28C ^ <uint32_t>size
    cdef uint32_t k
    while size >= 4:
        k = (<uint32_t>data[0] | <uint32_t>data[1] << 8 | <uint32_t>data[2] << 16
             | <uint32_t>data[3] << 24)
        k *= m
        k ^= k >> 24
        k *= m
        h *= m
        h ^= k
        data += 4
        size -= 4
    if size == 3:
        h ^= <uint32_t>data[2] << 16
    if size >= 2:
        h ^= <uint32_t>data[1] << 8
    if size >= 1:
        h ^= data[0]
        h *= m
    h ^= h >> 13
    h *= m
    return h ^ h >> 15


cdef inline uint32_t murmur2_any(object data) except? 0:
    cdef Py_buffer view
    cdef uint32_t result
    if PyBytes_Check(data):
        return murmur2_of(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    result = murmur2_of(<const uint8_t *>view.buf, view.len)
    PyBuffer_Release(&view)
    return result


def murmur2(data):
    return murmur2_any(data)


def partition_for(key, count):
    cdef int64_t among
    if not PyLong_Check(count) or not 0 < count <= INT32_MAX:
        return pure.partition_for(key, count)
    among = count
    return (murmur2_any(key) & 0x7FFFFFFF) % among
