"""Runs a program as Linux 4.4 would: what that kernel lacks is answered as it would answer.

    old_kernel.py PROGRAM [ARGUMENT ...]

A filter (seccomp) that the program and all its children inherit answers ENOSYS to each system call of x86_64 that is newer
than mlock2, the last one of 4.4, and EINVAL to operations of older calls that came later, as far as they can be told by
their arguments.
"""

import ctypes
import os
import struct
import sys

NEWEST = 325  # mlock2
ENOSYS, EINVAL = 38, 22
MADVISE, FCNTL, PRCTL = 28, 72, 157
# Offsets in struct seccomp_data; the lower half of an argument comes first.
NUMBER, ARCHITECTURE = 0, 4
ARGUMENT = [16 + 8 * i for i in range(6)]
X86_64 = 0xC000003E
ALLOW, ERROR, KILL = 0x7FFF0000, 0x00050000, 0x00000000
LOAD, EQUAL, AT_LEAST, ABOVE, RETURN = 0x20, 0x15, 0x35, 0x25, 0x06


def statement(code, value, yes=0, no=0):
    return struct.pack("<HBBI", code, yes, no, value)


def refused(call, argument, ranges):
    """EINVAL when the argument of a call is in one of these ranges; 4.4 knows none of them."""
    checks = b""
    for first, last in ranges:
        # Below the first, or above the last: on to the next range.
        checks += statement(AT_LEAST, first, 0, 2)
        checks += statement(ABOVE, last, 1, 0)
        checks += statement(RETURN, ERROR | EINVAL)
    body = statement(LOAD, ARGUMENT[argument]) + checks + statement(LOAD, NUMBER)
    return statement(EQUAL, call, 0, len(body) // 8) + body


def program():
    return b"".join(
        [
            statement(LOAD, ARCHITECTURE),
            statement(EQUAL, X86_64, 1, 0),
            statement(RETURN, KILL),
            statement(LOAD, NUMBER),
            statement(AT_LEAST, NEWEST + 1, 0, 1),
            statement(RETURN, ERROR | ENOSYS),
            # MADV_FREE (4.5), MADV_WIPEONFORK (4.14) and later ones.
            refused(MADVISE, 2, [(8, 8), (18, 99)]),
            # F_GET_RW_HINT (4.13) and later ones.
            refused(FCNTL, 1, [(1035, 1100)]),
            # PR_SET_SPECULATION_CTRL (4.17) and later ones; PR_SET_VMA (5.17), which glibc uses.
            refused(PRCTL, 0, [(48, 0xFFFF), (0x53564D41, 0x53564D41)]),
            statement(RETURN, ALLOW),
        ]
    )


def main():
    code = program()
    filters = ctypes.create_string_buffer(code)
    description = ctypes.create_string_buffer(
        struct.pack("@HP", len(code) // 8, ctypes.addressof(filters))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    # PR_SET_NO_NEW_PRIVS; PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
    for words in [(38, 1, 0, 0, 0), (22, 2, ctypes.addressof(description), 0, 0)]:
        if libc.prctl(ctypes.c_int(words[0]), *map(ctypes.c_ulong, words[1:])) != 0:
            sys.exit(f"old_kernel.py: prctl {words[0]}: {os.strerror(ctypes.get_errno())}")
    os.execv(sys.argv[1], sys.argv[1:])


main()
