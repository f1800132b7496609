# What is in bytes.

def has_null(bytes data):
    """Whether `null` is in there."""
    return memmem(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), b"null", 4) != NULL
