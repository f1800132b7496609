"""Which boot of the machine this is: what another one left in the page cache is gone."""

import functools
import sys

UNKNOWN = bytes(16)


@functools.cache
def boot_id() -> bytes:
    """16 bytes that change with every boot, or UNKNOWN where the system does not tell."""
    if sys.platform == "darwin":
        import ctypes  # slow to load, and needed nowhere else

        text = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(len(text))
        found = ctypes.CDLL(None).sysctlbyname(
            b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0)
        )
        return bytes.fromhex(text.value.decode().replace("-", "")) if found == 0 else UNKNOWN
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return bytes.fromhex(file.read().strip().replace("-", ""))
    except OSError:
        return UNKNOWN
