"""Measure this machine once and print the sample as JSON: what runs on the hosts.

It goes to a host's own Python on stdin and leaves nothing there, so with ``fields`` it stands alone: Python
3.6 or newer, its library, psutil if there is one, else /proc and /sys. Two snapshots, ``--window`` seconds
apart, have one form whatever the source. What is not known is null, never 0. What fails leaves its own fields
null and says so in ``error``. Totals cover the disks and interfaces of the maps, each byte once.
"""

import _thread  # threading takes longer to import than a machine to read
import os
import select
import sys
import time

# The worker puts the text of that module in the place of this statement: a host gets one file.
from airflow_provider_restrack.collect.fields import (
    COUNTERS,
    CPU_PARTS,
    STATES,
    build,
    clean,
    disk_fields,
    memory_fields,
    reason_of,
)

FILESYSTEMS_S = 2.0  # how long all mounts together may delay the sample: a dead NFS server never answers
NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as the largest multiple of the page size
SECTOR_BYTES = 512  # the unit of /proc/diskstats, whatever the disk's own sectors are
DIGITS = "0123456789"
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
# Their bytes pass another interface too, if there is one: ends of containers in the clouds' networks and
# Cilium's, PPP, IPsec; and on BSD, macOS and illumos, where no /sys/class/net tells what stands on what.
CARRIED_INTERFACE_PREFIXES = ("azv", "eni", "gke", "ipsec", "lxc", "ppp", "vti", "xfrm")
CARRIED_WITHOUT_SYS = ("aggr", "bond", "carp", "epair", "lagg", "trunk", "vlan")


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


def keep(kind, names, usual, patterns):
    """Return what is measured: the usual or, with "/", what patterns include; less what they exclude."""
    if not patterns:
        return list(usual)
    from fnmatch import fnmatchcase

    def matches(name, verb):
        return any(fnmatchcase(kind + "=" + name, pattern) for v, pattern in patterns if v == verb)

    if any(verb == "include" and pattern.startswith(kind + "=") for verb, pattern in patterns):
        usual = [name for name in names if name == "/" or matches(name, "include")]
    return [name for name in usual if not matches(name, "exclude")]


def pick_mounts(mounts, patterns=()):
    """Return the mount points to measure: real filesystems, each once, at its shortest mount point."""
    visible = {point: (device, kind) for device, point, kind in mounts}  # the last one hides those below it
    shortest, pseudo = {}, PSEUDO_FILESYSTEMS.split()
    usual = [point for point in visible if visible[point][1] not in pseudo or point == "/"]
    for mountpoint in keep("mounts", visible, usual, patterns):
        # A path or a server names one filesystem; a word such as "s3fs" can name several.
        device = visible[mountpoint][0]
        key = device if device.startswith("/") or ":" in device else (device, mountpoint)
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


def disk_of(name, names):
    """Return the disk of a partition, in a list: sda of sda1, nvme0n1 of nvme0n1p1; none of anything else."""
    stem = name.rstrip(DIGITS)
    disk = stem[:-1] if stem[-1:] == "p" and stem[-2:-1].isdigit() else stem
    return [disk] if disk != name and disk in names else []


def pick_interfaces(names):
    """Return the interfaces without those that their names tell to be inner ones, tunnels or VLANs."""
    prefixes = tuple(OTHER_INTERFACE_PREFIXES.split())
    others = [n for n in names if n.rstrip(DIGITS) in OTHER_INTERFACES or n.startswith(prefixes)]
    return [n for n in names if n not in others and n.rpartition(".")[0] not in names]


def drop_carried(names, counters, prefixes):
    """Return the interfaces without those that another one carries, as their names tell.

    All are kept where no other one has had a byte: the link can be ppp0 alone, beside a card without a cable.
    """
    others = [n for n in names if not n.startswith(prefixes)]
    return others if any(counters[n]["recv"] or counters[n]["sent"] for n in others) else names


class Procfs:
    """A snapshot's source: files of /proc and /sys below ``root``, each read once, and what went wrong."""

    collector = "procfs"

    def __init__(self, root="/", lib=None, patterns=()):
        self.root = root
        self.lib = lib
        self.patterns = patterns  # pairs such as ("exclude", "mounts=/mnt/*")
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

    def unit(self, name):
        """Return a unit that the kernel counts in: SC_CLK_TCK a second, SC_PAGE_SIZE bytes."""
        return os.sysconf(name)

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
        return parse_stat(self.text("proc/stat"), self.unit("SC_CLK_TCK"))

    def _disk_io(self, devices=None):
        devices = parse_diskstats(self.text("proc/diskstats")) if devices is None else devices
        slaves = {name: self.names("sys/block/%s/slaves" % name) for name in self.names("sys/block")}
        usual = pick_disks(devices, slaves or None)
        lower = {n: slaves.get(n.replace("/", "!")) or disk_of(n, devices) for n in devices}
        return self._number(self._count_once("devices", devices, usual, lower, set()), "sys/block/%s/diskseq")

    def _network(self, interfaces=None):
        """Read the interfaces without those whose bytes are counted on another one."""
        interfaces = parse_net_dev(self.text("proc/net/dev")) if interfaces is None else interfaces
        usual = pick_interfaces(interfaces)
        lower, sums = self._links(interfaces if self.patterns else usual)
        members = {member for name in sums for member in lower[name]}
        usual = [n for n in usual if n not in members and (n in sums or n not in lower)]
        prefixes = () if sums or self.names("sys/class/net") else CARRIED_WITHOUT_SYS
        usual = drop_carried(usual, interfaces, CARRIED_INTERFACE_PREFIXES + prefixes)
        return self._number(
            self._count_once("interfaces", interfaces, usual, lower, sums), "sys/class/net/%s/ifindex"
        )

    def _number(self, counters, path):
        """Add the number that the kernel gives to each, which is another one if it is made anew."""
        return {n: dict(c, index=self.number(path % n.replace("/", "!"))) for n, c in counters.items()}

    def _links(self, names):
        """Return what interfaces stand on, and which of them count the bytes of all that they stand on.

        A bond counts its members' bytes, and so does a Hyper-V guest's card. The bytes of a VLAN, macvlan,
        team or bridge are counted on what it stands on.
        """
        lower, sums = {name: [] for name in self.names("proc/net/vlan")}, set()
        for name in names:
            entries = self.names("sys/class/net/" + name)
            below = [entry[6:] for entry in entries if entry.startswith(("lower_", "slave_"))]
            if below or "bridge" in entries:
                lower[name] = below
            if below and ("bonding" in entries or "device" in entries):
                sums.add(name)
        for bond in self.names("proc/net/bonding"):
            lines = (self.find("proc/net/bonding/" + bond) or "").split("\n")
            lower[bond] = [line[17:] for line in lines if line.startswith("Slave Interface: ")]
            sums.add(bond)
        return lower, sums

    def _count_once(self, kind, counters, usual, lower, sums):
        """Return the counters of what is kept; ``once`` where no other one that is kept has the same bytes.

        What is neither usual nor on anything known, as a loop device or a tunnel, may be on any usual one.
        """
        names = keep(kind, counters, usual, self.patterns)
        members = {member for name in sums for member in lower[name]}
        double = set()
        for name in names if self.patterns else ():
            below, queue = set(), [name]
            while queue:
                top = queue.pop()
                known = lower.get(top) or (() if top in members or top in usual else usual)
                queue.extend(set(known) - below)
                below.update(known)
            double.update(below if name in sums else [name] if (below - {name}).intersection(names) else ())
        return {name: dict(counters[name], once=name not in double) for name in names}

    def _swap(self):
        pages, size = parse_keyed(self.text("proc/vmstat")), self.unit("SC_PAGE_SIZE")
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
        mounts = mounts or parse_mounts(self.text("proc/self/mounts"))
        return disk_fields(self.ask(pick_mounts(mounts, self.patterns)))

    def ask(self, mountpoints):
        """Return what statvfs says of each mount point that answers in time.

        Each is asked in a thread: the call of a dead one cannot be ended, and hinders none.
        """
        answers = {}

        def ask(mountpoint, done):
            try:
                answers[mountpoint] = self.statvfs(mountpoint)
            except (FileNotFoundError, PermissionError):  # unmounted by now, or not ours to see
                pass
            except BaseException as error:
                self.problems.append("disk: %s: %s" % (mountpoint, reason_of(error)))
            done.release()

        locks = {mountpoint: _thread.allocate_lock() for mountpoint in mountpoints}
        for mountpoint, done in locks.items():
            done.acquire()
            _thread.start_new_thread(ask, (mountpoint, done))
        end = time.monotonic() + FILESYSTEMS_S
        for mountpoint, done in locks.items():
            if not done.acquire(True, max(0.0, end - time.monotonic())):
                self.problems.append("disk: %s gives no answer in %g s" % (mountpoint, FILESYSTEMS_S))
        return dict(answers)


class Psutil(Procfs):
    """A snapshot's source: psutil, and the files of /proc for what psutil does not know or fails at."""

    collector = "psutil"

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


def measure(first, last, window):
    """Return the sample and the counters of two sources, asked ``window`` seconds apart."""
    before = first.take(COUNTERS)
    if window:
        time.sleep(max(0.0, before["clock"] + window - first.clock()))
    after = last.take(COUNTERS + tuple(STATES))
    fields, problems = build(before, after)
    problems = list(dict.fromkeys(first.problems + last.problems + problems))
    error = clean("; ".join(problems))[:1000] or None
    outcome = "partial" if problems else "ok"
    counters = {name: after[name] for name in COUNTERS if name in after}
    return dict(fields, outcome=outcome, error=error, collector=last.collector), counters


def sources_of(options):
    """Return the two sources that the options ask for."""
    patterns = options["patterns"]
    if options["collector"] != "procfs":
        try:
            import psutil

            return [Psutil("/", psutil, patterns), Psutil("/", psutil, patterns)]
        except Exception:  # missing, or built for another Python, which raises more than ImportError
            if options["collector"] == "psutil":
                raise
    return [Procfs("/", None, patterns), Procfs("/", None, patterns)]


def parse_options(arguments):
    """Return the options; by hand, because argparse takes longer to import than a machine to read."""
    options = {"window": 1.0, "sentinel": "restrack", "limit": None, "collector": "auto", "counters": "no"}
    patterns = []
    for flag, value in zip(arguments[::2], arguments[1::2] + [None]):
        name = flag[2:] if flag[:2] == "--" else None
        if value is None or name not in options and name not in ("include", "exclude"):
            names = list(options) + ["include", "exclude"]
            raise ValueError("%s: no option, or no value; there are --%s" % (flag, " --".join(names)))
        if name in options:
            options[name] = float(value) if name in ("window", "limit") else value
        else:
            patterns.append((name, value))
    seconds = (options["window"], options["limit"] or 0)
    if not all(0 <= s < 1e6 for s in seconds) or options["collector"] not in ("auto", "psutil", "procfs"):
        raise ValueError("--window and --limit are seconds, --collector is auto, psutil or procfs")
    return dict(options, patterns=patterns)


def to_json(value):
    """Return a cleaned value as JSON; the library's json takes longer to import than a machine to read."""
    try:
        from _json import encode_basestring_ascii as quote
    except ImportError:  # not CPython
        from json.encoder import encode_basestring_ascii as quote
    if isinstance(value, dict):
        return "{%s}" % ", ".join(quote(key) + ": " + to_json(value[key]) for key in value)
    if isinstance(value, list):
        return "[%s]" % ", ".join(to_json(item) for item in value)
    if isinstance(value, str):
        return quote(value)
    return "null" if value is None else repr(value).lower() if isinstance(value, bool) else repr(value)


def main(arguments):
    """Print the greeting, measure, print the sample; return the exit status."""

    def say(kind, value):  # one line at once: what else a shell prints may stand before and after it
        print("%s:%s %s" % (options["sentinel"], kind, to_json(value)), flush=True)

    def end_in_time():  # or when nobody reads any more: once the connection is cut, nobody else would
        poll = select.poll()
        poll.register(sys.stdout, 0)
        poll.poll(options["limit"] * 1000)
        os._exit(3)

    try:
        options = parse_options(arguments)
        if options["limit"] is not None:
            _thread.start_new_thread(end_in_time, ())
        say("hello", {"time": time.time()})
        first, last = sources_of(options)
    except (ValueError, ImportError) as error:
        sys.stderr.write("agent: %s\n" % error)
        return 2
    sample, counters = measure(first, last, options["window"])
    if options["counters"] == "yes":
        sample["counters"] = clean(counters)
    say("sample", dict(sample, host_time=time.time()))
    return 0


if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]  # where the shell started, or this file lies: a json.py there is not the library's
    os._exit(main(sys.argv[1:]))  # at once: threads that a dead mount holds never end
