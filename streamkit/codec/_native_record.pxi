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
