# Compaction's part of latest.py: a table of keys' latest offsets, and batches sifted by it.

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *address, size_t size, int protection, int flags, int fd, long offset)
    int munmap(void *address, size_t size)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS
    void *MAP_FAILED


cdef struct Entry:
    uint64_t low
    uint64_t high
    int64_t offset  # -1: the entry is free


cdef enum:
    AHEAD = 32


cdef struct Probe:
    # A key to be looked up. As many as AHEAD are hashed before the first is looked for, so that
    # memory is under way to all of their places at once: the table is larger than any cache.
    uint64_t low
    uint64_t high
    int64_t offset
    bint keyed
    bint stays
    int64_t timestamp
    bint empty


cdef inline uint64_t rotated(uint64_t number, int bits) noexcept nogil:
    return number << bits | number >> (64 - bits)


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[1] = rotated(v[1], 13) ^ v[0]
    v[0] = rotated(v[0], 32)
    v[2] += v[3]
    v[3] = rotated(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = rotated(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = rotated(v[1], 17) ^ v[2]
    v[2] = rotated(v[2], 32)


cdef inline void digest(uint64_t k0, uint64_t k1, const uint8_t *data, int64_t size,
                        uint64_t *low, uint64_t *high) noexcept nogil:
    """SipHash-1-3 of 128 bits: two keys with one digest would be taken for the same, and the keys'
    author does not know the secret."""
    cdef uint64_t[4] v
    cdef uint64_t word
    cdef int64_t left = size
    v[0] = k0 ^ <uint64_t>0x736F6D6570736575
    v[1] = k1 ^ <uint64_t>0x646F72616E646F6D ^ 0xEE
    v[2] = k0 ^ <uint64_t>0x6C7967656E657261
    v[3] = k1 ^ <uint64_t>0x7465646279746573
    while left >= 8:
        memcpy(&word, data, 8)
        v[3] ^= word
        sip_round(v)
        v[0] ^= word
        data += 8
        left -= 8
    word = 0
    memcpy(&word, data, left)
    word |= <uint64_t>size << 56
    v[3] ^= word
    sip_round(v)
    v[0] ^= word
    v[2] ^= 0xEE
    sip_round(v)
    sip_round(v)
    sip_round(v)
    low[0] = v[0] ^ v[1] ^ v[2] ^ v[3]
    v[1] ^= 0xDD
    sip_round(v)
    sip_round(v)
    sip_round(v)
    high[0] = v[0] ^ v[1] ^ v[2] ^ v[3]


cdef class LatestOffsets:
    cdef Entry *_table
    cdef Py_ssize_t _mask
    cdef Py_ssize_t _count
    cdef Py_ssize_t _full_at
    cdef uint64_t _k0
    cdef uint64_t _k1

    def __cinit__(self, memory):
        cdef Py_ssize_t largest = 64
        cdef Py_ssize_t room = min(memory, 1 << 40)
        while 2 * largest * <Py_ssize_t>sizeof(Entry) <= room:
            largest *= 2
        # Beyond that there is room for the rest of a batch, before the table has to grow.
        self._full_at = largest // 4 * 3
        self._k0 = <uint64_t><int64_t>hash(b"the latest offset of a key")
        self._k1 = <uint64_t><int64_t>hash(b"among those of a partition")
        self._table = fresh_table(64)
        if self._table == NULL:
            raise MemoryError
        self._mask = 63

    def __dealloc__(self):
        let_go(self._table, self._mask + 1)

    def __len__(self):
        return self._count

    @property
    def full(self):
        return self._count >= self._full_at

    def get(self, key):
        cdef Probe probe
        cdef bytes data = bytes(key)
        self.aim(<const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &probe)
        return self.find(&probe).offset

    cdef inline void aim(self, const uint8_t *key, int64_t size, Probe *probe) noexcept nogil:
        """Hash a key, and have memory bring its place in the table."""
        digest(self._k0, self._k1, key, size, &probe.low, &probe.high)
        prefetch(&self._table[probe.low & <uint64_t>self._mask])

    cdef inline Entry *find(self, const Probe *probe) noexcept nogil:
        """The key's entry, or the free one where it belongs."""
        cdef Entry *entry
        cdef Py_ssize_t at = probe.low & <uint64_t>self._mask
        while True:
            entry = &self._table[at]
            if entry.offset < 0 or entry.low == probe.low and entry.high == probe.high:
                return entry
            at = (at + 1) & self._mask

    cdef inline bint put(self, const Probe *probe) noexcept nogil:
        """False when there is no memory."""
        cdef Entry *entry
        if self._count >= self._mask // 8 * 7 and not self.grow():
            return False
        entry = self.find(probe)
        if entry.offset < 0:
            self._count += 1
            entry.low = probe.low
            entry.high = probe.high
        entry.offset = probe.offset
        return True

    cdef bint grow(self) noexcept nogil:
        cdef Py_ssize_t mask = 2 * self._mask + 1
        cdef Py_ssize_t i, at
        cdef Entry *table = fresh_table(mask + 1)
        if table == NULL:
            return False
        for i in range(self._mask + 1):
            if self._table[i].offset >= 0:
                at = self._table[i].low & <uint64_t>mask
                while table[at].offset >= 0:
                    at = (at + 1) & mask
                table[at] = self._table[i]
        let_go(self._table, self._mask + 1)
        self._table = table
        self._mask = mask
        return True

    def add(self, batch, from_offset=0):
        cdef Batches batches = one_batch(batch, from_offset)
        cdef int64_t found = 0, lowest = from_offset
        cdef bint room = True
        cdef Probe probe
        if batches is not None:
            with nogil:
                found = self.add_rows(&batches.items[0], lowest, &room)
            if not room:
                raise MemoryError
            if found >= 0:
                return found
        rows = pure.columns(batch, from_offset)
        for key, offset in zip(rows.keys, rows.offsets):
            if key is not None:
                self.aim(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), &probe)
                probe.offset = offset
                if not self.put(&probe):
                    raise MemoryError
        return len(rows.keys)

    cdef int64_t add_rows(self, const Batch *batch, int64_t from_offset,
                          bint *room) noexcept nogil:
        """How many records there were; -1 when one is malformed."""
        cdef const uint8_t *at = batch.start
        cdef int64_t i, last_delta = -1, found = 0
        cdef int ahead = 0, j
        cdef Probe[AHEAD] probes
        cdef Row row
        for i in range(batch.count):
            at = get_row(at, batch, last_delta, &row)
            if at == NULL:
                return -1
            last_delta = row.delta
            if batch.base_offset + row.delta < from_offset:
                continue
            found += 1
            if row.key_size >= 0:
                self.aim(row.key, row.key_size, &probes[ahead])
                probes[ahead].offset = batch.base_offset + row.delta
                ahead += 1
            if ahead == AHEAD:
                for j in range(ahead):
                    if not self.put(&probes[j]):
                        room[0] = False
                        return -1
                ahead = 0
        for j in range(ahead):
            if not self.put(&probes[j]):
                room[0] = False
                return -1
        return found if at == batch.end else -1


cdef Entry *fresh_table(Py_ssize_t size) noexcept nogil:
    """NULL: there is no memory. It is asked of the system itself, so that all of it goes back there:
    of what `malloc` is given back tens of megabytes stay for good behind what came after them."""
    cdef void *memory = mmap(NULL, size * sizeof(Entry), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    cdef Entry *table = <Entry *>memory
    cdef Py_ssize_t i
    if memory == MAP_FAILED:
        return NULL
    for i in range(size):
        table[i].offset = -1
    return table


cdef void let_go(Entry *table, Py_ssize_t size) noexcept nogil:
    if table != NULL:
        munmap(table, size * sizeof(Entry))


cdef Batches one_batch(object buf, int64_t from_offset):
    """A batch of data that is as it should be and has records from there on; else None."""
    cdef Batches batches = open_batches(buf, from_offset)
    return batches if batches is not None and batches.count == 1 else None


cdef struct Sifted:
    int64_t count
    int64_t empty  # of those the ones without a value
    int64_t max_timestamp


cdef bint sift(const Batch *batch, LatestOffsets latest, bint tombstones, uint8_t *kept,
               Sifted *out) noexcept nogil:
    """Which records stay; False when one is malformed."""
    cdef const uint8_t *at = batch.start
    cdef int64_t i = 0, last_delta = -1
    cdef int ahead, j
    cdef Probe[AHEAD] probes
    cdef Probe *probe
    cdef Row row
    out.count = out.empty = 0
    out.max_timestamp = INT64_MIN
    while i < batch.count:
        ahead = <int>min(<int64_t>AHEAD, batch.count - i)
        for j in range(ahead):
            at = get_row(at, batch, last_delta, &row)
            if at == NULL:
                return False
            last_delta = row.delta
            probe = &probes[j]
            probe.keyed = row.key_size >= 0
            probe.empty = row.value_size < 0
            probe.stays = probe.keyed and (tombstones or not probe.empty)
            probe.offset = batch.base_offset + row.delta
            probe.timestamp = row.timestamp
            if probe.stays:
                latest.aim(row.key, row.key_size, probe)
        for j in range(ahead):
            probe = &probes[j]
            kept[i + j] = probe.stays and probe.offset >= latest.find(probe).offset
            if kept[i + j]:
                out.count += 1
                out.empty += probe.empty
                if probe.timestamp > out.max_timestamp:
                    out.max_timestamp = probe.timestamp
        i += ahead
    return at == batch.end


cdef Py_ssize_t copy_kept(const Batch *batch, const uint8_t *kept, uint8_t *out) noexcept nogil:
    """Copy the records that stay, as they are; how many bytes they have."""
    cdef const uint8_t *at = batch.start
    cdef const uint8_t *run = at
    cdef uint8_t *to = out
    cdef int64_t i, size = 0
    cdef const uint8_t *end
    for i in range(batch.count):
        end = get_varint32(at, batch.end, &size) + size
        if not kept[i]:
            memcpy(to, run, at - run)
            to += at - run
            run = end
        at = end
    memcpy(to, run, at - run)
    return to + (at - run) - out


cdef Py_ssize_t move_kept(const Batch *batch, const uint8_t *kept, int64_t base,
                          uint8_t *out) noexcept nogil:
    """Copy the records that stay with their times relative to `base`; -1 when one is too far."""
    cdef const uint8_t *at = batch.start
    cdef const uint8_t *rest
    cdef const uint8_t *end
    cdef uint8_t *to = out
    cdef int64_t i, size = 0, delta = 0, timestamp
    for i in range(batch.count):
        at = get_varint32(at, batch.end, &size)
        end = at + size
        if kept[i]:
            rest = get_varint64(at + 1, end, &delta)
            timestamp = batch.max_timestamp if batch.log_append_time \
                else batch.base_timestamp + delta
            if base > 0 and timestamp < INT64_MIN + base or base < 0:
                return -1
            delta = timestamp - base
            to = put_varint(to, 1 + varint_size(delta) + (end - rest))
            to[0] = at[0]
            to = put_varint(to + 1, delta)
            memcpy(to, rest, end - rest)
            to += end - rest
        at = end
    return to - out


def keep_latest(batch, LatestOffsets latest, *, tombstones, horizon):
    found = sifted_batch(batch, latest, tombstones, horizon)
    if found is None:
        return pure_keep_latest(batch, latest, tombstones=tombstones, horizon=horizon)
    return found


cdef object sifted_batch(object buf, LatestOffsets latest, bint tombstones, int64_t horizon):
    """None when the batch is not as it should be."""
    cdef Batches batches = one_batch(buf, 0)
    cdef const Batch *batch
    cdef Sifted found
    cdef uint8_t *kept
    cdef uint8_t *out = NULL
    cdef Py_ssize_t size
    cdef bint whole, begins
    if batches is None or horizon < 0:
        return None
    header = read_header(buf)
    batch = &batches.items[0]
    if batch.count == 0:
        return None
    kept = <uint8_t *>malloc(batch.count)
    if kept == NULL:
        raise MemoryError
    try:
        with nogil:
            whole = sift(batch, latest, tombstones, kept, &found)
        if not whole:
            return None
        begins = found.empty > 0 and not header.has_delete_horizon
        if found.count == 0:
            return 0, b""
        if found.count == batch.count and not begins:
            return found.count, None
        # A time delta and a length can each become longer, by 9 bytes and by 4.
        size = batch.end - batch.start + (13 * found.count if begins else 0)
        out = <uint8_t *>malloc(size)
        if out == NULL:
            raise MemoryError
        with nogil:
            if begins:
                size = move_kept(batch, kept, horizon, out)
            else:
                size = copy_kept(batch, kept, out)
        if size < 0:
            return None
        return found.count, resealed(
            header,
            PyBytes_FromStringAndSize(<const char *>out, size),
            count=found.count,
            max_timestamp=header.max_timestamp if batch.log_append_time else found.max_timestamp,
            horizon=horizon if begins else None,
        )
    finally:
        free(kept)
        free(out)
