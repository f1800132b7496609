# Numbers in C: big-endian ones, and the varints of varint.py.

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
