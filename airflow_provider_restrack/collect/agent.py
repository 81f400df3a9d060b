"""Measure this machine once and print the sample as JSON: the one file of the package that runs on the hosts.

It goes to a host's own Python on stdin and leaves nothing there, so it stands alone: Python 3.6 or newer, its
library, psutil if there is one, else /proc and /sys. Two snapshots, ``--window`` seconds apart, have one form
whatever the source. What is not known is null, never 0. What fails leaves its own fields null and says so in
``error``. Maps and totals cover the same disks and interfaces, each byte once.
"""

import os
import select
import sys
import time

FILESYSTEMS_S = 2.0  # how long all mounts together may delay the sample: a dead NFS server never answers
NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as the largest multiple of the page size
SECTOR_BYTES = 512  # the unit of /proc/diskstats, whatever the disk's own sectors are
DIGITS = "0123456789"
STATES = {  # the sections that need one snapshot, and the fields that each reads
    "memory": "memory_total memory_used memory_available memory_usage swap_total swap_used swap_usage",
    "load": "load_1m load_5m load_15m",
    "boot": "boot_id uptime",
    "tasks": "process_running process_blocked",
    "process_count": "process_count",
    "open_files": "open_files",
    "tcp_connections": "tcp_connections",
    "pressure": "pressure_cpu pressure_memory pressure_io",
    "disk": "disk_usage disk_total disk_used disk_free filesystem_usage filesystem_free inode_usage",
}

# Without "guest" and "guest_nice": the kernel counts them in "user" and "nice" already.
CPU_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")
CPU_PARTS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")

# Filesystems that keep no files, are full by design, or show another one's files. "/" counts whatever it is.
PSEUDO_FILESYSTEMS = """
aufs autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs devfs devpts devtmpfs efivarfs fdescfs fusectl
fuse.gvfsd-fuse fuse.lxcfs fuse.portal fuse.snapfuse hugetlbfs iso9660 linprocfs mqueue nsfs nullfs overlay
proc procfs pstore ramfs rootfs rpc_pipefs securityfs selinuxfs squashfs sysfs tmpfs tracefs
"""
# Memory, images, drives for media, and ZFS volumes, whose I/O is counted on the disks of the pool.
OTHER_DISKS = ("cd", "fd", "loop", "pass", "ram", "sr", "zd", "zram")
# Loopback, bridges, ends of containers and tunnels: their bytes pass another interface, or none.
OTHER_INTERFACES = ("br", "bridge", "dummy", "gif", "lo", "stf")
OTHER_INTERFACE_PREFIXES = """
br- cali cilium_ cni docker erspan flannel fwbr fwln fwpr genev gre ifb ip6_vti ip6gre ip6tnl ip_vti kube-
lxcbr lxdbr nodelocaldns ovs- podman sit tailscale tap tun utun veth virbr vmbr vnet vxlan weave wg zt
"""


def lines_of(text, path):
    """Return the lines of one of the kernel's tables, which always has some."""
    if not text.strip():
        raise ValueError("/%s is empty" % path)
    return text.split("\n")[:-1]


def parse_keyed(text):
    """Return the whole numbers of lines of a key and a value: /proc/vmstat, procs_running, memory.stat."""
    pairs = (line.split() for line in text.split("\n"))
    return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}


def parse_stat(text, ticks=100):
    """Return the CPU seconds in total and of each CPU."""
    cores = {}
    for line in lines_of(text, "proc/stat"):
        if line.startswith("cpu"):
            name, *values = line.split()
            cores[name] = {part: int(value) / ticks for part, value in zip(CPU_PARTS, values)}
    total = cores.pop("cpu", {})
    if "idle" not in total:
        raise ValueError("/proc/stat has no CPU times")
    return {"total": total, "cores": cores}


def parse_meminfo(text):
    """Return the fields of memory and swap.

    Kernels before 3.14 have no MemAvailable: free + buffers + page cache - shared memory stands for it, too
    high by what cache cannot be dropped. Under lxcfs it can exceed the total: free stands for it then.
    """
    info = {}
    for line in lines_of(text, "proc/meminfo"):
        name, *words = line.replace(":", " ").split()
        info[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    if "MemTotal" not in info or "MemFree" not in info:
        raise ValueError("/proc/meminfo has no MemTotal or no MemFree")
    cache = info.get("Buffers", 0) + info.get("Cached", 0) - info.get("Shmem", 0)
    available = info.get("MemAvailable", info["MemFree"] + cache)
    if not 0 <= available <= info["MemTotal"]:
        available = info["MemFree"]
    swap, unused = info.get("SwapTotal"), info.get("SwapFree")
    return memory_fields(info["MemTotal"], available, swap, None if unused is None else swap - unused)


def memory_fields(total, available, swap, swap_used):
    """Return the fields of memory and swap, which has no usage where there is none."""
    used = total - available
    memory = {"memory_total": total, "memory_used": used, "memory_available": available}
    shares = {"memory_usage": percent(used, total), "swap_usage": percent(swap_used, swap)}
    return dict(memory, swap_total=swap, swap_used=swap_used, **shares)


def parse_diskstats(text):
    """Return bytes read and written and busy seconds of each block device, partitions included."""
    devices = {}
    for line in lines_of(text, "proc/diskstats") if text else ():
        words = line.split()
        if len(words) >= 14:  # before Linux 2.6.25 partitions have seven words and no busy time
            read, write = int(words[5]) * SECTOR_BYTES, int(words[9]) * SECTOR_BYTES
            devices[words[2]] = {"read": read, "write": write, "busy": int(words[12]) / 1000.0}
    return devices


def parse_net_dev(text):
    """Return bytes received and sent, errors and drops of each interface."""
    interfaces = {}
    for line in lines_of(text, "proc/net/dev")[2:]:
        name, _, numbers = line.rpartition(":")
        v = [int(word) for word in numbers.split()]
        interfaces[name.strip()] = {"recv": v[0], "sent": v[8], "errors": v[2] + v[10], "drops": v[3] + v[11]}
    return interfaces


def parse_mounts(text):
    """Return (device, mount point, type) of each mount, in the order of mounting."""
    rows = [line.split(" ") for line in lines_of(text, "proc/self/mounts")]
    return [(unescape(row[0]), unescape(row[1]), row[2]) for row in rows if len(row) >= 3]


def unescape(text):
    """Undo what the kernel does to the characters that would break the table."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("043", "#"), ("134", "\\")):
        text = text.replace("\\" + code, character)
    return text


def parse_tcp(text):
    """Count the established connections of /proc/net/tcp or tcp6; no other column can be `` 01 ``."""
    return sum(" 01 " in line for line in lines_of(text, "proc/net/tcp"))


def parse_pressure(text):
    """Return the 60-second average of a PSI file's line of some stalled tasks, or None."""
    words = [word for line in (text or "").split("\n") if line.startswith("some ") for word in line.split()]
    return next((float(word[6:]) for word in words if word.startswith("avg60=")), None)


def parse_cgroup(text):
    """Return the path of each controller's cgroup; that of version 2 has the empty name."""
    paths = {}
    for words in (line.split(":", 2) for line in text.split("\n")):
        if len(words) == 3:
            # The kernel writes /../.. for what is outside of the namespace: the mount has none of it.
            path = "" if ".." in words[2].split("/") else words[2]
            paths.update((controller, path) for controller in words[1].split(","))
    return paths


def pick_mounts(mounts):
    """Return the mount points to measure: real filesystems, each once, at its shortest mount point."""
    visible = {point: (device, kind) for device, point, kind in mounts}  # the last one hides those below it
    shortest, pseudo = {}, PSEUDO_FILESYSTEMS.split()
    for mountpoint, (device, kind) in visible.items():
        # A path or a server names one filesystem; a word such as "s3fs" can name several.
        key = device if device.startswith("/") or ":" in device else (device, mountpoint)
        if kind not in pseudo or mountpoint == "/":
            shortest[key] = min(shortest.get(key, mountpoint), mountpoint, key=len)
    return sorted(shortest.values())


def pick_disks(names, slaves):
    """Return the whole disks that are made of no others; by name where /sys tells no ``slaves``."""
    # nvme0c0n1 is one path to nvme0n1, which counts the same bytes.
    names = [n for n in names if n.rstrip(DIGITS) not in OTHER_DISKS and not (n[:4] == "nvme" and "c" in n)]
    if slaves is not None:
        return [n for n in names if slaves.get(n.replace("/", "!")) == []]
    disks = [n for n in names if not n.startswith(("dm-", "md"))]
    stems = disks + [n + "p" for n in disks if n[-1:].isdigit()]  # of sda1, and of nvme0n1p1
    return [n for n in disks if n.rstrip(DIGITS) == n or n.rstrip(DIGITS) not in stems]


def pick_interfaces(names):
    """Return the interfaces without those that their names tell to be inner ones, tunnels or VLANs."""
    prefixes = tuple(OTHER_INTERFACE_PREFIXES.split())
    others = [n for n in names if n.rstrip(DIGITS) in OTHER_INTERFACES or n.startswith(prefixes)]
    return [n for n in names if n not in others and n.rpartition(".")[0] not in names]


class Procfs:
    """A snapshot's source: files of /proc and /sys below ``root``, each read once, and what went wrong."""

    def __init__(self, root="/", lib=None):
        self.root = root
        self.lib = lib
        self.problems = []
        self._texts = {}

    def text(self, path):
        """Return a file's text; bytes that are not UTF-8 survive as surrogates, whatever the locale."""
        if path not in self._texts:
            with open(os.path.join(self.root, path), "rb") as file:
                self._texts[path] = file.read().decode("utf-8", "surrogateescape")
        if "/" in path and self._texts[path][-1:] not in ("", "\n"):
            raise ValueError("/%s is cut off" % path)  # its last number could be a part of one
        return self._texts[path]

    def find(self, path):
        """Return the text of a file that a machine need not have, or None: PSI turned off fails when read."""
        try:
            return self.text(path)
        except OSError:
            return None

    def number(self, path):
        """Return the whole number in a file, or None if there is no file, or a word such as ``max`` in it."""
        text = (self.find(path) or "").strip()
        return int(text) if text.lstrip("-").isdigit() else None

    def names(self, path):
        """Return the names in a directory, none if it cannot be read."""
        try:
            return os.listdir(os.path.join(self.root, path))
        except OSError:
            return []

    def clock(self):
        """Return the time that windows are measured by, in seconds."""
        return time.monotonic()

    def statvfs(self, mountpoint):
        """Return (block size, blocks, free, free to users, inodes, free inodes) of a mounted filesystem."""
        # As bytes: under LANG=C, Python 3.6 cannot encode a path that has letters beyond ASCII.
        s = os.statvfs(mountpoint.encode("utf-8", "surrogateescape"))
        return s.f_frsize or s.f_bsize, s.f_blocks, s.f_bfree, s.f_bavail, s.f_files, s.f_ffree

    def take(self, sections):
        """Return a snapshot: the time and what each section reads, without those that fail."""
        snapshot = {"clock": self.clock()}
        for name in sections:
            try:
                snapshot[name] = self.read(name)
            except BaseException as error:
                self.problems.append("%s: %s" % (name, reason_of(error)))
        return snapshot

    def read(self, name):
        """Read one section."""
        return getattr(self, "_" + name)()

    def _cpu(self):
        return parse_stat(self.text("proc/stat"), os.sysconf("SC_CLK_TCK"))

    def _disk_io(self, devices=None):
        devices = parse_diskstats(self.text("proc/diskstats")) if devices is None else devices
        slaves = {name: self.names("sys/block/%s/slaves" % name) for name in self.names("sys/block")}
        return {name: devices[name] for name in pick_disks(devices, slaves or None)}

    def _network(self, interfaces=None):
        interfaces = parse_net_dev(self.text("proc/net/dev")) if interfaces is None else interfaces
        names = pick_interfaces(interfaces)
        return {name: interfaces[name] for name in sorted(set(names) - self._stacked(names))}

    def _stacked(self, names):
        """Return the interfaces whose bytes are counted on another one.

        A bond counts its members' bytes, and so does a Hyper-V guest's card: members go. The bytes of a VLAN,
        macvlan, team or bridge are counted on what it stands on: it goes itself.
        """
        stacked = set(self.names("proc/net/vlan"))
        for bond in self.names("proc/net/bonding"):
            lines = (self.find("proc/net/bonding/" + bond) or "").split("\n")
            stacked.update(line[17:] for line in lines if line.startswith("Slave Interface: "))
        entries = {name: self.names("sys/class/net/" + name) for name in names}
        sums = {name for name in names if "bonding" in entries[name] or "device" in entries[name]}
        for name in names:
            stands = any(entry.startswith("lower_") or entry == "bridge" for entry in entries[name])
            master = os.path.join(self.root, "sys/class/net", name, "master")
            member = "master" in entries[name] and os.path.basename(os.readlink(master)) in sums
            stacked.update([name] if member or (stands and name not in sums) else [])
        return stacked

    def _swap(self):
        pages, size = parse_keyed(self.text("proc/vmstat")), os.sysconf("SC_PAGE_SIZE")
        return {key: pages["pswp" + key] * size for key in ("in", "out") if "pswp" + key in pages}

    def _container(self):
        """Read the use and the limits of this process's cgroup, or of the nearest one above it that has any.

        In a container, /proc/self/cgroup can have the host's path: the top of the mount is its own then.
        """
        paths, top = parse_cgroup(self.find("proc/self/cgroup") or ""), "sys/fs/cgroup"
        unified = top + "/unified" if self.names(top + "/unified") else top
        found = {}
        for controller, read in (("memory", self._cgroup_memory), ("cpu", self._cgroup_cpu)):
            path, version = (paths[controller], 1) if controller in paths else (paths.get(""), 2)
            parts = [part for part in (path or "").split("/") if part]
            mount = unified if version == 2 else top + "/" + controller
            levels = ["/".join([mount] + parts[:count]) for count in range(len(parts), -1, -1)]
            found.update(next(filter(None, (read(level, version) for level in levels)), {}))
        return found

    def _cgroup_memory(self, level, version):
        """Return a cgroup's memory limit and its use without the file cache that is dropped at need."""
        names = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file") if version == 1 else ()
        limit_file, usage_file, cache = names or ("max", "current", "inactive_file")
        limit, usage = (self.number(level + "/memory." + name) for name in (limit_file, usage_file))
        if limit is None or limit >= NO_LIMIT:
            return None
        cached = parse_keyed(self.find(level + "/memory.stat") or "").get(cache)
        known = usage is not None and cached is not None
        return {"memory_limit": limit, "memory_used": max(0, usage - cached) if known else None}

    def _cgroup_cpu(self, level, version):
        """Return a cgroup's quota in CPUs and the CPU seconds that it used."""
        if version == 2:
            words = (self.find(level + "/cpu.max") or "max").split()
            used = parse_keyed(self.find(level + "/cpu.stat") or "").get("usage_usec")
        else:
            words = [(self.find(level + "/cpu.cfs_%s_us" % k) or "-1").strip() for k in ("quota", "period")]
            nanoseconds = self.number(level.replace("cgroup/cpu", "cgroup/cpuacct", 1) + "/cpuacct.usage")
            used = None if nanoseconds is None else nanoseconds / 1000
        if words[0] in ("max", "-1"):
            return None
        return {"cpus": int(words[0]) / int(words[1]), "cpu_seconds": None if used is None else used / 1e6}

    def _memory(self):
        return parse_meminfo(self.text("proc/meminfo"))

    def _load(self, averages=None):
        words = self.text("proc/loadavg").split() if averages is None else averages
        return {name: float(word) for name, word in zip(STATES["load"].split(), words)}

    def _boot(self):
        boot_id = (self.find("proc/sys/kernel/random/boot_id") or "").strip()
        return {"boot_id": boot_id or None, "uptime": float(self.text("proc/uptime").split()[0])}

    def _tasks(self):
        counts = parse_keyed(self.text("proc/stat"))
        return {"process_" + key: counts.get("procs_" + key) for key in ("running", "blocked")}

    def _process_count(self, pids=None):
        pids = [int(name) for name in self.names("proc") if name.isdigit()] if pids is None else pids
        return {"process_count": len(pids) if 1 in pids else None}  # with hidepid=2 a user sees only his own

    def _open_files(self):
        return {"open_files": int(self.text("proc/sys/fs/file-nr").split()[0])}

    def _tcp_connections(self):
        texts = (self.text("proc/net/tcp"), self.find("proc/net/tcp6"))  # no tcp6 from a kernel without IPv6
        return {"tcp_connections": sum(parse_tcp(text) for text in texts if text is not None)}

    def _pressure(self):
        keys = ("cpu", "memory", "io")
        return {"pressure_" + key: parse_pressure(self.find("proc/pressure/" + key)) for key in keys}

    def _disk(self, mounts=None):
        """Measure each filesystem in a thread: the call of a dead one cannot be ended, and hinders none."""
        import threading

        mountpoints = pick_mounts(mounts or parse_mounts(self.text("proc/self/mounts")))
        answers = {}

        def ask(mountpoint):
            try:
                answers[mountpoint] = self.statvfs(mountpoint)
            except (FileNotFoundError, PermissionError):  # unmounted by now, or not ours to see
                pass
            except BaseException as error:
                self.problems.append("disk: %s: %s" % (mountpoint, reason_of(error)))

        threads = [threading.Thread(None, ask, args=(m,), daemon=True) for m in mountpoints]
        for thread in threads:
            thread.start()
        end = time.monotonic() + FILESYSTEMS_S
        for mountpoint, thread in zip(mountpoints, threads):
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self.problems.append("disk: %s gives no answer in %g s" % (mountpoint, FILESYSTEMS_S))
        return disk_fields(dict(answers))


class Psutil(Procfs):
    """A snapshot's source: psutil, and the files of /proc for what psutil does not know or fails at."""

    def read(self, name):
        """Read one section; None if this kind of system does not have it."""
        try:
            return Procfs.read(self, name)
        except BaseException as error:
            failure = error
        try:
            return getattr(Procfs, "_" + name)(self)
        except FileNotFoundError:
            if isinstance(failure, (AttributeError, NotImplementedError, FileNotFoundError)):
                return None
        raise failure

    def _cpu(self):
        """Read the CPU times by name: their order differs between systems."""
        readings = self.lib.cpu_times(percpu=True) + [self.lib.cpu_times()]
        *cores, total = [{p: getattr(r, p) for p in CPU_PARTS if hasattr(r, p)} for r in readings]
        return {"total": total, "cores": {"cpu%d" % number: times for number, times in enumerate(cores)}}

    def _disk_io(self):
        """Read the counters of the disks; not with nowrap, which hides that a counter went back."""
        devices = {}
        for name, c in (self.lib.disk_io_counters(perdisk=True, nowrap=False) or {}).items():
            busy = c.busy_time / 1000.0 if hasattr(c, "busy_time") else None
            devices[name] = {"read": c.read_bytes, "write": c.write_bytes, "busy": busy}
        return super()._disk_io(devices)

    def _network(self):
        interfaces = {}
        for name, c in (self.lib.net_io_counters(pernic=True, nowrap=False) or {}).items():
            errors, drops = c.errin + c.errout, c.dropin + c.dropout
            interfaces[name] = {"recv": c.bytes_recv, "sent": c.bytes_sent, "errors": errors, "drops": drops}
        return super()._network(interfaces)

    def _memory(self):
        """Read memory and swap; not ``used`` of memory, whose meaning changed between versions."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # psutil warns where a kernel lacks a field, and goes on
            m, swap = self.lib.virtual_memory(), self.lib.swap_memory()
        return memory_fields(m.total, m.available, swap.total, swap.used)

    def _load(self):
        return super()._load(os.getloadavg())

    def _boot(self):
        """Read the boot's id and age; psutil knows the second alone, and only by the calendar."""
        since = time.time() - self.lib.boot_time()
        return super()._boot() if self.find("proc/uptime") else {"boot_id": None, "uptime": since}

    def _process_count(self):
        return super()._process_count(self.lib.pids())

    def _disk(self):
        # Not psutil's list where /proc has one: 5.7.4 to 5.9 look into each mount, and block on a dead one.
        if self.find("proc/self/mounts"):
            return super()._disk()
        partitions = self.lib.disk_partitions(all=True)
        return super()._disk([(p.device, p.mountpoint, p.fstype) for p in partitions])


class Recorded(Procfs):
    """A snapshot's source: a folder of ``proc`` and ``sys`` trees, with ``time`` and ``statvfs.json``."""

    def clock(self):
        """Return the recorded time in epoch seconds, or None."""
        return float(self.text("time")) if self.find("time") else None

    def statvfs(self, mountpoint):
        """Return the recorded numbers of a mount point."""
        import json

        return json.loads(self.text("statvfs.json"))[mountpoint]


def disk_fields(answers):
    """Return the fields of filesystems as df reckons: blocks kept for root are neither used nor available."""
    usage, free, inodes, root = {}, {}, {}, {}
    for mountpoint, (size, blocks, unused, available, files, unused_files) in answers.items():
        if blocks:
            available = available if available <= blocks else 0  # BSD: below zero, once root uses its reserve
            usage[mountpoint] = percent(blocks - unused, blocks - unused + available)
            free[mountpoint] = available * size
            inodes[mountpoint] = percent(files - unused_files, files)
            if mountpoint == "/":
                root = {"disk_total": blocks * size, "disk_used": (blocks - unused) * size}
    maps = {"filesystem_usage": usage, "filesystem_free": free, "inode_usage": inodes} if usage else {}
    return dict(root, disk_usage=usage.get("/"), disk_free=free.get("/"), **maps)


def reason_of(error):
    """Return an exception in one short line."""
    text = str(error) if isinstance(error, ValueError) else "%s %s" % (type(error).__name__, error)
    if isinstance(error, OSError) and error.filename:
        text = "%s: %s" % (os.fsdecode(error.filename), error.strerror)
    return " ".join(text.replace(";", ",").split())[:160]


def build(before, after):
    """Return the fields of two snapshots, the first of the counters alone, and what went wrong."""
    first, last = before.get("clock"), after.get("clock")
    elapsed = last - first if first is not None and last is not None and last > first else None
    sample, problems = {"window_seconds": elapsed}, []
    for section, names in STATES.items():
        sample.update((name, (after.get(section) or {}).get(name)) for name in names.split())
    for section, builder in zip(COUNTERS, BUILDERS):
        try:
            fields = builder(before.get(section), after.get(section), elapsed)
        except Exception as error:
            problems.append("%s: %s" % (section, reason_of(error)))
            fields = builder(None, None, None)  # the names, each null
        sample.update(fields)
    return {name: clean(value) for name, value in sample.items()}, problems


def clean(value):
    """Return a value as JSON takes it: finite, to three decimals, its names in UTF-8."""
    if isinstance(value, float):
        return round(value, 3) if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {clean(key): clean(number) for key, number in value.items() if clean(number) is not None}
    if isinstance(value, list):
        return None if None in value else [clean(number) for number in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return value


def percent(part, whole):
    """Return a share from 0 to 100, None if a value is unknown or there is nothing to share."""
    return None if part is None or not whole else min(100.0, max(0.0, 100.0 * part / whole))


def rate(first, last, elapsed):
    """Return the growth per second, None if a value is unknown or the counter went back."""
    known = elapsed is not None and first is not None and last is not None
    return (last - first) / elapsed if known and last >= first else None


def rates_of(first, last, key, elapsed):
    """Return the rates of one counter of the devices that both snapshots have, None if they are unknown."""
    if first is None or last is None:
        return None
    rates = {name: rate(first[name][key], last[name][key], elapsed) for name in last if name in first}
    rates = {name: value for name, value in rates.items() if value is not None}
    return rates if rates or not last else None


def sum_of(values):
    """Return the sum of the known values, None of nothing: what was not measured is not zero."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def shares_of(first, last):
    """Return the shares of CPU time between two readings, none if a counter went back.

    The kernel books a wait that goes on as idle or iowait by what is outstanding when it is read, so either
    can shrink while the other grows: their sum counts, and only ``iowait`` itself is unknown then.
    """
    grown = {part: last[part] - first[part] for part in CPU_PARTS if part in first and part in last}
    busy = [grown[part] for part in CPU_BUSY if part in grown]
    idle, waited = grown.get("idle", 0), grown.get("iowait", 0)
    whole = sum(busy) + idle + waited
    if not busy or min(busy) < 0 or idle + waited < -1e-6 or whole <= 0:  # psutil's seconds are not exact
        return {}
    shares = {part: percent(value, whole) for part, value in grown.items()}
    if min(idle, waited) < 0:
        shares.pop("iowait", None)
    return dict(shares, usage=percent(sum(busy), whole))


def _build_cpu(first, last, _elapsed):
    was, cores = (first or {}).get("cores") or {}, (last or {}).get("cores") or {}
    times = (last or {}).get("total") or {}
    shares = shares_of((first or {}).get("total") or {}, times)
    usages = [shares_of(was[n], cores[n]).get("usage") for n in cores] if list(was) == list(cores) else []
    return {
        "cpu_usage": shares.get("usage"),
        "cpu_user": sum_of(shares.get(part) for part in ("user", "nice")),
        "cpu_system": sum_of(shares.get(part) for part in ("system", "irq", "softirq")),
        "cpu_iowait": shares.get("iowait"),
        "cpu_steal": shares.get("steal"),
        "cpu_count": len(cores) or None,
        "cpu_core_usage": usages or None,
        "cpu_busy_seconds": sum_of(times.get(part) for part in CPU_BUSY),
        "cpu_total_seconds": sum_of(times.values()),
    }


def _build_disk_io(first, last, elapsed):
    read, write, busy = (rates_of(first, last, key, elapsed) for key in ("read", "write", "busy"))
    busy = None if busy is None else {name: percent(share, 1) for name, share in busy.items()}
    counters = (last or {}).values()
    return {
        "disk_io_read": sum_of((read or {}).values()),
        "disk_io_write": sum_of((write or {}).values()),
        "disk_io_busy": max(busy.values()) if busy else None,
        "device_read": read,
        "device_write": write,
        "device_busy": busy,
        "disk_read_bytes": sum_of(c["read"] for c in counters),
        "disk_write_bytes": sum_of(c["write"] for c in counters),
    }


def _build_network(first, last, elapsed):
    keys = ("recv", "sent", "errors", "drops")
    recv, sent, errors, drops = (rates_of(first, last, key, elapsed) for key in keys)
    counters = (last or {}).values()
    return {
        "network_io_recv": sum_of((recv or {}).values()),
        "network_io_sent": sum_of((sent or {}).values()),
        "network_errors": sum_of((errors or {}).values()),
        "network_drops": sum_of((drops or {}).values()),
        "interface_recv": recv,
        "interface_sent": sent,
        "network_recv_bytes": sum_of(c["recv"] for c in counters),
        "network_sent_bytes": sum_of(c["sent"] for c in counters),
    }


def _build_swap(first, last, elapsed):
    first, last = first or {}, last or {}
    return {"swap_" + key: rate(first.get(key), last.get(key), elapsed) for key in ("in", "out")}


def _build_container(first, last, elapsed):
    first, last = first or {}, last or {}
    cpus = rate(first.get("cpu_seconds"), last.get("cpu_seconds"), elapsed)
    return {
        "container_cpu_usage": percent(cpus, last.get("cpus")),
        "container_memory_usage": percent(last.get("memory_used"), last.get("memory_limit")),
        "container_memory_limit": last.get("memory_limit"),
    }


BUILDERS = (_build_cpu, _build_disk_io, _build_network, _build_swap, _build_container)
COUNTERS = tuple(builder.__name__[7:] for builder in BUILDERS)  # read first: their windows are equal


def measure(first, last, window):
    """Return the sample of two sources, the second asked ``window`` seconds after the first."""
    before = first.take(COUNTERS)
    if window:
        time.sleep(max(0.0, before["clock"] + window - first.clock()))
    fields, problems = build(before, last.take(COUNTERS + tuple(STATES)))
    problems = list(dict.fromkeys(first.problems + last.problems + problems))
    error = clean("; ".join(problems))[:1000] or None
    collector = "psutil" if isinstance(last, Psutil) else "procfs"
    return dict(fields, outcome="partial" if problems else "ok", error=error, collector=collector)


def sources_of(options):
    """Return the two sources that the options ask for."""
    if options["snapshots"]:
        return [Recorded(os.path.join(options["snapshots"], number)) for number in ("0", "1")]
    if options["collector"] != "procfs":
        try:
            import psutil

            return [Psutil("/", psutil), Psutil("/", psutil)]
        except Exception:  # missing, or built for another Python, which raises more than ImportError
            if options["collector"] == "psutil":
                raise
    return [Procfs(), Procfs()]


def parse_options(arguments):
    """Return the options; by hand, because argparse takes longer to import than a machine to read."""
    options = {"window": 1.0, "sentinel": "restrack", "limit": None, "collector": "auto", "snapshots": None}
    for flag, value in zip(arguments[::2], arguments[1::2] + [None]):
        if flag[:2] != "--" or flag[2:] not in options or value is None:
            raise ValueError("%s: no option, or no value; there are --%s" % (flag, " --".join(options)))
        options[flag[2:]] = float(value) if flag in ("--window", "--limit") else value
    seconds = (options["window"], options["limit"] or 0)
    if not all(0 <= s < 1e6 for s in seconds) or options["collector"] not in ("auto", "psutil", "procfs"):
        raise ValueError("--window and --limit are seconds, --collector is auto, psutil or procfs")
    return options


def main(arguments):
    """Print the greeting, measure, print the sample; return the exit status."""
    import json
    import threading

    def say(kind, value):  # one line at once: what else a shell prints may stand before and after it
        print("%s:%s %s" % (options["sentinel"], kind, json.dumps(value, allow_nan=False)), flush=True)

    def end_in_time():  # or when nobody reads any more: once the connection is cut, nobody else would
        poll = select.poll()
        poll.register(sys.stdout, 0)
        poll.poll(options["limit"] * 1000)
        os._exit(3)

    try:
        options = parse_options(arguments)
        if options["limit"] is not None:
            threading.Thread(None, end_in_time, daemon=True).start()
        say("hello", {"time": time.time()})
        first, last = sources_of(options)
    except (ValueError, ImportError) as error:
        sys.stderr.write("agent: %s\n" % error)
        return 2
    recorded = options["snapshots"] is not None
    sample = measure(first, last, 0 if recorded else options["window"])
    say("sample", dict(sample, host_time=(last.clock() if recorded else None) or time.time()))
    return 0


if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # where the shell started, or this file lies: a json.py there is not the library's
    os._exit(main(sys.argv[1:]))  # at once: threads that a dead mount holds never end
