# cython: language_level=3
"""Append, commit, wake and sync in C, for the case that nothing is special.

Where many processes append on few processors, each finds the caches full of the others' things, and
then an append takes as long as what it touches: code, frames, objects. So this calls the system
itself and writes into the mapped page, and of Python's objects it looks at those alone that say
what is open and what is configured. For that it knows the insides of its neighbours.

Wherever something is not as it nearly always is (a lock that another has, a page that is dirty, a
segment that is to end, a producer that is not known, a file that is not open) nothing is done, and
the caller does it the other way. The order is that of `Appender`: dirty, bytes, index entries,
publish, clean. No signal is heard between taking a file's lock and letting it go, so that no
interrupt comes there.

What a producer's batch makes of the producers is for Python to say, in a draft made before the lock
is taken: it counts if, with the lock, the log is found to end where it was made.
"""

import os

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from streamkit.clock import SystemClock
from streamkit.codec import check
from streamkit.log.append import MAX_RELATIVE_OFFSET as _MAX_RELATIVE_OFFSET
from streamkit.log.producer_state import Place
from streamkit.log.retention import AHEAD as _AHEAD
from streamkit.log.segment import INDEX, LOG, TIMEINDEX

cdef extern from *:
    """
    #include <endian.h>
    #include <errno.h>
    #include <sys/file.h>
    #include <sys/stat.h>
    #include <sys/uio.h>
    #include <unistd.h>

    static uint64_t get64(const uint8_t *at) { uint64_t n; memcpy(&n, at, 8); return be64toh(n); }
    static uint32_t get32(const uint8_t *at) { uint32_t n; memcpy(&n, at, 4); return be32toh(n); }
    static void put64(uint8_t *at, uint64_t n) { n = htobe64(n); memcpy(at, &n, 8); }
    static void put32(uint8_t *at, uint32_t n) { n = htobe32(n); memcpy(at, &n, 4); }

    /* What stands before it has been stored, or loaded, before what stands behind it. */
    #define in_order() __atomic_thread_fence(__ATOMIC_ACQ_REL)

    /* By half bytes: a table of one line of the cache. The larger ones are for longer texts. */
    static const uint32_t crc_of_half[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158,
        0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4,
        0xa00ae278, 0xbdbdf21c,
    };

    static uint32_t crc32_of(const uint8_t *at, int size) {
        uint32_t crc = 0xffffffff;
        for (const uint8_t *end = at + size; at < end; at++) {
            crc ^= *at;
            crc = crc_of_half[crc & 15] ^ (crc >> 4);
            crc = crc_of_half[crc & 15] ^ (crc >> 4);
        }
        return ~crc;
    }

    static int is_gone(int fd) {
        struct stat found;
        return fstat(fd, &found) != 0 || found.st_nlink == 0;
    }

    static int try_lock(int fd) { return flock(fd, LOCK_EX | LOCK_NB) == 0; }
    static void unlock(int fd) { flock(fd, LOCK_UN); }

    /* 0 when all of it was written, an errno, or -1 when a part of it was. */
    static int written(int64_t count, int64_t size) {
        return count == size ? 0 : count < 0 ? errno : -1;
    }

    static int write_batch(
        int fd, const uint8_t *first, const uint8_t *batch, int64_t size, int64_t position
    ) {
        struct iovec pieces[2] = {{(void *)first, 16}, {(void *)(batch + 16), size - 16}};
        return written(pwritev(fd, pieces, 2, position), size);
    }

    static int write_entry(int fd, const uint8_t *entry, int64_t size, int64_t position) {
        return written(pwrite(fd, entry, size, position), size);
    }
    """
    uint64_t get64(const uint8_t *at) noexcept nogil
    uint32_t get32(const uint8_t *at) noexcept nogil
    void put64(uint8_t *at, uint64_t n) noexcept nogil
    void put32(uint8_t *at, uint32_t n) noexcept nogil
    void in_order() noexcept nogil
    uint32_t crc32_of(const uint8_t *at, int size) noexcept nogil
    bint is_gone(int fd) noexcept nogil
    bint try_lock(int fd) noexcept nogil
    void unlock(int fd) noexcept nogil
    int write_batch(
        int fd, const uint8_t *first, const uint8_t *batch, int64_t size, int64_t position
    ) noexcept nogil
    int write_entry(int fd, const uint8_t *entry, int64_t size, int64_t position) noexcept nogil
    int fdatasync(int fd) noexcept nogil
    int64_t pwrite(int fd, const void *bytes, size_t size, int64_t position) noexcept nogil
    int errno
    int EINTR

cdef enum:  # where what stands in the control block: see `control`
    END_AT = 0
    SYNCED_AT = 1024
    ERRNO_AT = 4094
    DIRTY_AT = 4095
    OTHER = 512  # from the first copy of a record to the second
    END_BYTES = 152  # without the checksum
    SYNCED_BYTES = 36

    GENERATION = 4  # in both records
    LEADER_EPOCH = 28
    ACTIVE_BASE = 32
    END_POSITION = 40
    END_OFFSET = 48
    STABLE_OFFSET = 64
    SEGMENT_CREATED = 72
    MAX_TIMESTAMP = 80
    MAX_TIMESTAMP_OFFSET = 88
    INDEXED_TIMESTAMP = 96
    INDEX_BYTES = 104
    TIMEINDEX_BYTES = 112
    UNINDEXED_BYTES = 120
    REWRITES = 136
    PRODUCERS_END = 144

    SYNCED_BASE = 12
    SYNCED_POSITION = 20
    SYNCED_OFFSET = 28

    FULL_AT = 4095  # in the page of `space`

cdef enum:  # where what stands in a batch: see codec/header.py
    LENGTH = 8
    STAMPED = 16  # bytes: offset, length, epoch
    LOW_ATTRIBUTES = 22
    LAST_OFFSET_DELTA = 23
    BATCH_MAX_TIMESTAMP = 35
    PRODUCER_ID = 43
    COUNT = 57
    HEADER = 61  # bytes
    TRANSACTIONAL = 0x10  # attributes
    CONTROL = 0x20

    ENTRY = 8  # bytes of an index: see `index`
    TIME_ENTRY = 12

cdef int64_t MAX_RELATIVE_OFFSET = _MAX_RELATIVE_OFFSET
cdef int64_t AHEAD = _AHEAD


cdef uint8_t *start_of(object page) except NULL:
    """The memory behind a mapped page: for as long as whoever asks keeps the page.

    It is unmapped in forked children only, by the only thread that they have.
    """
    cdef Py_buffer view
    PyObject_GetBuffer(page, &view, PyBUF_WRITABLE)
    PyBuffer_Release(&view)
    return <uint8_t *>view.buf


cdef inline uint64_t newest(const uint8_t *page) noexcept:
    """The generation of the newest of two copies, which need not be whole."""
    return max(get64(page + GENERATION), get64(page + OTHER + GENERATION))


cdef bint copied(uint8_t *found, const uint8_t *page, int size, const uint8_t *known) noexcept:
    """Whether the newest of two copies is whole: it is then in `found`, with its checksum.

    `page` is where the first begins. `known` is one that was whole: what is like it is so too.
    """
    cdef uint64_t generation = newest(page)
    memcpy(found, page + OTHER * (generation & 1), size + 4)
    in_order()  # what is checked from here on is the copy: somebody may be storing into the page
    if get64(found + GENERATION) != generation:
        return False
    return memcmp(found, known, size + 4) == 0 or (
        crc32_of(found, size) == get32(found + size) and memcmp(found, known, 4) == 0
    )


cdef void publish(uint8_t *page, uint8_t *after, int size) noexcept nogil:
    """Put it over the older copy, with the next generation."""
    cdef uint64_t generation = get64(after + GENERATION) + 1
    put64(after + GENERATION, generation)
    put32(after + size, crc32_of(after, size))
    in_order()
    memcpy(page + OTHER * (generation & 1), after, size + 4)
    in_order()


cdef class Direct:
    """For one partition. Used from any thread; what it remembers is changed with the GIL alone."""

    cdef object _access, _appender, _segments, _syncer, _checks, _clock, _space, _wake, _notify
    cdef bint _system_time, _syncs
    cdef object _log, _index, _timeindex  # names in the view's dict, of the segment that begins at …
    cdef int64_t _base
    cdef uint8_t[END_BYTES + 4] _end  # the last ones that were seen whole, or stored
    cdef uint8_t[SYNCED_BYTES + 4] _synced

    def __init__(
        self,
        access,
        appender,
        segments,
        syncer,
        *,
        checks,
        clock,
        space,
        wake,
        notify,
        syncs,
    ):
        self._access = access
        self._appender = appender
        self._segments = segments
        self._syncer = syncer
        self._checks = checks
        self._clock = clock
        self._space = space
        self._wake = wake
        self._notify = notify
        self._system_time = type(clock) is SystemClock
        self._syncs = syncs
        self._base = -1
        memcpy(self._end, b"SKE1", 4)
        memcpy(self._synced, b"SKS1", 4)

    def ends_at(self, int64_t offset):
        cdef uint8_t *page
        cdef uint8_t[END_BYTES + 4] end
        block = self._access.block
        if block is None or is_gone(block.file._fd):
            return False
        page = start_of(block.page)
        if not copied(end, page + END_AT, END_BYTES, self._end):
            return False
        memcpy(self._end, end, END_BYTES + 4)
        return <int64_t>get64(end + END_OFFSET) == offset

    # Append.

    def append(self, batch, bint sequenced=True):
        cdef Py_buffer view
        cdef const uint8_t *start
        cdef bint produced
        PyObject_GetBuffer(batch, &view, PyBUF_SIMPLE)
        start = <const uint8_t *>view.buf
        try:
            if len(batch) != view.len or not self._admitted(start, view.len):
                return None
            produced = (
                <int64_t>get64(start + PRODUCER_ID) != -1 or start[LOW_ATTRIBUTES] & TRANSACTIONAL
            )
            if produced and not self._is_followed():
                return None
            header = check(batch)  # last: what is not for here is checked where it goes
            offset = self._append(start, view.len, header if produced else None, sequenced)
        finally:
            PyBuffer_Release(&view)
        if offset is not None:
            self._tell()
        return offset

    def append_commit(self, producer_id, producer_epoch, coordinator_epoch, bumped):
        cdef Py_buffer view
        appending = self._access.appending
        if not self._is_followed() or not appending.acquire(False):
            return False
        try:
            found = self._appender.drafted_commit(
                producer_id, producer_epoch, coordinator_epoch, bumped
            )
            if found is None:
                return False
            marker, draft = found
            PyObject_GetBuffer(marker, &view, PyBUF_SIMPLE)
            try:
                offset = self._write(<const uint8_t *>view.buf, view.len, draft)
            finally:
                PyBuffer_Release(&view)
        finally:
            appending.release()
        if offset is None:
            return False
        self._tell()
        return True

    cdef object _tell(self):
        """Who waits in other processes has been told."""
        if self._wake is None:
            self._notify()
        elif self._wake._sleepers:
            self._wake.rouse()

    cdef bint _is_followed(self) except -1:
        """Whether the producers are known as of the end. Asked again with the lock."""
        cdef uint8_t *page
        block = self._access.block
        if block is None:
            return False
        page = start_of(block.page) + END_AT
        return (
            <int64_t>get64(page + OTHER * (newest(page) & 1) + END_OFFSET)
            == <int64_t>self._appender.producers.place.offset
        )

    cdef bint _admitted(self, const uint8_t *batch, int64_t size) except -1:
        """What `Checks` and `Space` have nothing against, if the header makes sense."""
        checks, space = self._checks, self._space
        if (
            size < HEADER
            or <int64_t><int32_t>get32(batch + LENGTH) + 12 != size
            or batch[LOW_ATTRIBUTES] & CONTROL
            or get32(batch + COUNT) != get32(batch + LAST_OFFSET_DELTA) + 1
            or size > <int64_t>checks._most
            or checks._times_count
            or checks._stamps_times
        ):
            return False
        if space is None:
            return True
        page = space._page
        return page is not None and page[FULL_AT] == 0

    cdef object _append(self, const uint8_t *batch, int64_t size, object header, bint sequenced):
        draft = None
        appending = self._access.appending
        if not appending.acquire(False):
            return None
        try:
            if header is not None:
                draft = self._appender.drafted(header, sequenced)
                if draft is None:
                    return None
            return self._write(batch, size, draft)
        finally:
            appending.release()

    cdef object _write(self, const uint8_t *batch, int64_t size, object draft):
        """Write, publish, and touch the wake file; the offset, or None. Needs `appending`.

        `draft`: the producers then, if the log still ends at their `place`; None: it is of none.
        """
        cdef int fd, log_fd, index_fd = -1, timeindex_fd = -1, wake_fd = -1, failed
        cdef uint8_t *page
        cdef uint8_t[END_BYTES + 4] end
        cdef uint8_t[STAMPED] stamped
        cdef uint8_t[ENTRY] entry
        cdef uint8_t[TIME_ENTRY] time_entry
        cdef int64_t offset, last, position, base, unindexed, interval, age, stable = 0
        cdef int64_t index_at = 0, timeindex_at = 0
        cdef int64_t rewrites
        cdef bint produced = draft is not None, locked
        appender = self._appender
        block = self._access.block
        if block is None or not appender.tail_checked:
            return None
        fd, page = block.file._fd, start_of(block.page)
        config = appender.config
        rolls = appender.rolls
        interval = <int64_t>config.index_interval_bytes
        if produced:
            stable = draft.stable_offset
        touched = None
        if self._wake is not None:
            touched = self._wake._file  # kept open by this
            if touched is None:
                return None
            wake_fd = touched._fd
        locked = try_lock(fd)
        if not locked:
            return None
        try:
            if is_gone(fd) or page[ERRNO_AT] or page[DIRTY_AT]:
                return None
            if not copied(end, page + END_AT, END_BYTES, self._end):
                return None
            base = <int64_t>get64(end + ACTIVE_BASE)
            position = <int64_t>get64(end + END_POSITION)
            offset = <int64_t>get64(end + END_OFFSET)
            unindexed = <int64_t>get64(end + UNINDEXED_BYTES)
            last = offset + <int32_t>get32(batch + LAST_OFFSET_DELTA)
            age = self._now() - <int64_t>get64(end + SEGMENT_CREATED)
            if (
                position == 0
                # What `Appender.fitting` asks:
                or size > <int64_t>config.segment_bytes - position
                or rolls[0] is not config
                or <int64_t>rolls[1] != base
                or age >= <int64_t>rolls[2]
                or age < -AHEAD
                or <int64_t>get64(end + INDEX_BYTES) >= <int64_t>config.segment_index_bytes
                or last - base > MAX_RELATIVE_OFFSET
            ):
                return None
            rewrites = <int64_t>get64(end + REWRITES)
            if produced and (
                appender.producers.place != Place(base, position, offset, rewrites)
                or <int64_t>get64(end + PRODUCERS_END) < 0  # the first: see `Appender._write`
            ):
                return None
            if self._base != base or self._log is None:
                self._log, self._index, self._timeindex, self._base = (
                    (base, LOG),
                    (base, INDEX),
                    (base, TIMEINDEX),
                    base,
                )
            opened = self._segments.current._open
            log = opened.get(self._log)
            if log is None:
                return None
            log_fd = log._fd
            put64(stamped, offset)
            memcpy(stamped + 8, batch + LENGTH, 4)
            memcpy(stamped + 12, end + LEADER_EPOCH, 4)
            if <int64_t>get64(batch + BATCH_MAX_TIMESTAMP) > <int64_t>get64(end + MAX_TIMESTAMP):
                memcpy(end + MAX_TIMESTAMP, batch + BATCH_MAX_TIMESTAMP, 8)
                put64(end + MAX_TIMESTAMP_OFFSET, last)
            if unindexed > interval:  # as `Tally` does
                index, timeindex = opened.get(self._index), opened.get(self._timeindex)
                if index is None or timeindex is None:
                    return None
                index_fd, index_at = index._fd, <int64_t>get64(end + INDEX_BYTES)
                put32(entry, <uint32_t>(last - base))
                put32(entry + 4, <uint32_t>position)
                put64(end + INDEX_BYTES, index_at + ENTRY)
                if <int64_t>get64(end + MAX_TIMESTAMP) > <int64_t>get64(end + INDEXED_TIMESTAMP):
                    timeindex_fd = timeindex._fd
                    timeindex_at = <int64_t>get64(end + TIMEINDEX_BYTES)
                    memcpy(time_entry, end + MAX_TIMESTAMP, 8)
                    put32(
                        time_entry + 8,
                        <uint32_t>(<int64_t>get64(end + MAX_TIMESTAMP_OFFSET) - base),
                    )
                    memcpy(end + INDEXED_TIMESTAMP, end + MAX_TIMESTAMP, 8)
                    put64(end + TIMEINDEX_BYTES, timeindex_at + TIME_ENTRY)
                unindexed = 0
            if produced:
                put64(end + STABLE_OFFSET, stable)
                put64(end + PRODUCERS_END, last + 1)
            elif <int64_t>get64(end + STABLE_OFFSET) == offset:
                put64(end + STABLE_OFFSET, last + 1)
            put64(end + END_OFFSET, last + 1)
            put64(end + END_POSITION, position + size)
            put64(end + UNINDEXED_BYTES, unindexed + size)
            with nogil:
                page[DIRTY_AT] = 1
                in_order()
                failed = write_batch(log_fd, stamped, batch, size, position)
                if not failed and index_fd >= 0:
                    failed = write_entry(index_fd, entry, ENTRY, index_at)
                if not failed and timeindex_fd >= 0:
                    failed = write_entry(timeindex_fd, time_entry, TIME_ENTRY, timeindex_at)
                if not failed:
                    publish(page + END_AT, end, END_BYTES)
                    page[DIRTY_AT] = 0
                    unlock(fd)
                    if wake_fd >= 0:
                        pwrite(wake_fd, b"\n", 1, 0)  # where it fails, polling finds what is there
            if not failed:
                locked = False
                memcpy(self._end, end, END_BYTES + 4)
                if produced:
                    after = Place(base, position + size, last + 1, rewrites)
                    appender.producers.adopt_at(draft, after)
                return offset
            if failed > 0 and failed != EINTR:
                appender.take_back(block, block.end(), OSError(failed, os.strerror(failed)))
            return None  # it stays dirty: what was written is taken back, and the rest tried there
        finally:
            if locked:
                unlock(fd)

    cdef int64_t _now(self) except? -1:
        cdef timespec now
        if not self._system_time:
            return self._clock.now()
        clock_gettime(CLOCK_REALTIME, &now)
        return now.tv_sec * 1000 + now.tv_nsec // 1000000

    # Sync.

    def sync(self, int64_t before=INT64_MAX):
        block, syncer = self._access.block, self._syncer
        if not self._syncs or block is None:
            return False
        mutex = syncer._mutex
        if not mutex.acquire(False):
            return False
        try:
            directory = syncer._own
            return directory is not None and self._lead(block, directory, before)
        finally:
            mutex.release()

    cdef bint _lead(self, object block, object directory, int64_t before) except -1:
        """As `Syncer._lead`, with its lock. Needs its mutex."""
        cdef int fd = directory._fd, log_fd, failed, error
        cdef uint8_t *page = start_of(block.page)
        cdef uint8_t[END_BYTES + 4] end
        cdef uint8_t[SYNCED_BYTES + 4] synced
        cdef int64_t base, offset
        cdef bint locked = try_lock(fd)
        if not locked:
            return False
        try:
            if page[ERRNO_AT] or not copied(synced, page + SYNCED_AT, SYNCED_BYTES, self._synced):
                return False
            if not copied(end, page + END_AT, END_BYTES, self._end):
                return False
            base = <int64_t>get64(end + ACTIVE_BASE)
            if <int64_t>get64(synced + SYNCED_BASE) != base:
                return False
            offset = <int64_t>get64(synced + SYNCED_OFFSET)
            if offset >= before or offset >= <int64_t>get64(end + END_OFFSET):
                return True
            log = self._segments.current._open.get((base, LOG))
            if log is None:
                return False
            log_fd = log._fd
            memcpy(synced + SYNCED_POSITION, end + END_POSITION, 8)
            memcpy(synced + SYNCED_OFFSET, end + END_OFFSET, 8)
            with nogil:
                failed = fdatasync(log_fd)
                error = errno
                if not failed:
                    publish(page + SYNCED_AT, synced, SYNCED_BYTES)
                    unlock(fd)
            if not failed:
                locked = False
                memcpy(self._synced, synced, SYNCED_BYTES + 4)
                return True
            if error != EINTR:
                self._syncer.failed(block, OSError(error, os.strerror(error)))
            return False
        finally:
            if locked:
                unlock(fd)
