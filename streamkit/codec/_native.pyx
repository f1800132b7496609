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

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_Check,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.dict cimport PyDict_GetItem
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_Check
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.memoryview cimport PyMemoryView_Check, PyMemoryView_GET_BUFFER
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec
from libc.stdint cimport INT16_MAX, INT32_MAX, INT64_MAX, INT64_MIN, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

import google_crc32c
from google_crc32c import value as _crc32c

from streamkit.codec import pure
from streamkit.codec.batch import require_room, seal
from streamkit.codec.compression import CODECS, MAX_INFLATED, codec_number, decompress
from streamkit.codec.header import BatchHeader, read_header
from streamkit.codec.header import check as check_unusual
from streamkit.codec.latest import keep_latest as pure_keep_latest
from streamkit.codec.latest import resealed
from streamkit.codec.producing import of_producer as of_any_producer
from streamkit.errors import InvalidRecord
from streamkit.records import Columns, Record

cdef extern from "string.h" nogil:
    void *memmem(const void *within, size_t length, const void *part, size_t size)

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
    #if defined(__GNUC__)
    #define prefetch(place) __builtin_prefetch(place)
    #else
    #define prefetch(place) ((void)(place))
    #endif
    """
    Py_ssize_t slot_offset(PyTypeObject *type, PyObject *descr)
    bint is_plain(PyTypeObject *type)
    object allocate(PyTypeObject *type)
    void set_slot(PyObject *object, Py_ssize_t offset, PyObject *value)
    void prefetch(const void *place) nogil

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
    TRANSACTIONAL = 16

cdef int _CODECS = len(CODECS)
cdef int64_t _MAX_INFLATED = MAX_INFLATED

include "_native_numbers.pxi"
include "_native_record.pxi"
include "_native_checksum.pxi"
include "_native_taken.pxi"
include "_native_header.pxi"
include "_native_encoding.pxi"
include "_native_builder.pxi"
include "_native_decoding.pxi"
include "_native_partitioner.pxi"
include "_native_lanes.pxi"
include "_native_latest.pxi"
include "_native_search.pxi"
