# The hash and partition of partitioner.py.

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
