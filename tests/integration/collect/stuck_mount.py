"""Run a command beside a mount that never answers, and say what the command left behind.

``stuck_mount.py MOUNTPOINT COMMAND...``: in a mount namespace of its own, this process is the FUSE server of
the mount: it greets the kernel, then answers nothing, as a dead file server does. What the command leaves
becomes its child, so it can be seen. It exits with the command's status, or with 99 if a process is left.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
FUSE_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
LEAVE_LIMIT_S = 3.0
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    if getattr(libc, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def mount_stuck(mountpoint: str) -> int:
    """Mount a FUSE filesystem whose server stops after the greeting; return its open device."""
    call("unshare", CLONE_NEWNS)
    call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    call("mount", b"dead", mountpoint.encode(), b"fuse.dead", 0, options.encode())
    request = os.read(device, 65536)
    unique = struct.unpack_from("=IIQ", request)[2]
    major, minor = struct.unpack_from("=II", request, 40)
    answer = FUSE_INIT_OUT.pack(major, min(minor, 31), 4096, 0, 16, 12, 4096, 1, 1, 0, 0)
    os.write(device, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
    return device


def left_processes() -> list[str]:
    """Return the command lines of this process's children that live on; those that end are waited for."""
    end = time.monotonic() + LEAVE_LIMIT_S
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return []
        if time.monotonic() > end:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            return [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in children]
        time.sleep(0.05)


def main(mountpoint: str, command: list[str]) -> int:
    call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    mount_stuck(mountpoint)
    status = subprocess.run(command, check=False).returncode
    left = left_processes()
    if left:
        sys.stderr.write(f"left behind: {left}\n")
        return 99
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
