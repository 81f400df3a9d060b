"""The fields of a sample from two snapshots of a machine: pure functions, part of the agent.

The worker puts this text into the agent's before it sends it (see ``tiers``), so the file is of Python 3.6
and imports nothing. What is not known is null, never 0.
"""

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


def reason_of(error):
    """Return an exception in one short line."""
    text = str(error) if isinstance(error, ValueError) else "%s %s" % (type(error).__name__, error)
    if isinstance(error, OSError) and error.filename:
        name = error.filename
        name = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
        text = "%s: %s" % (name, error.strerror)
    return " ".join(text.replace(";", ",").split())[:160]


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


def memory_fields(total, available, swap, swap_used):
    """Return the fields of memory and swap, which has no usage where there is none."""
    used = total - available
    memory = {"memory_total": total, "memory_used": used, "memory_available": available}
    shares = {"memory_usage": percent(used, total), "swap_usage": percent(swap_used, swap)}
    return dict(memory, swap_total=swap, swap_used=swap_used, **shares)


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


def rate(first, last, elapsed):
    """Return the growth per second, None if a value is unknown or the counter went back."""
    known = elapsed is not None and first is not None and last is not None
    return (last - first) / elapsed if known and last >= first else None


def is_same(first, last):
    """Whether two readings are of one disk or interface; where the kernel numbers them, not by name alone."""
    was, now = first.get("index"), last.get("index")
    return was is None or now is None or was == now


def rates_of(first, last, key, elapsed):
    """Return the rates of one counter of the devices that both snapshots have, None if they are unknown.

    A system need not have each: macOS and OpenBSD know no busy time, and JSON brings no nulls.
    """
    if first is None or last is None:
        return None
    names = [name for name in last if name in first and is_same(first[name], last[name])]
    rates = {name: rate(first[name].get(key), last[name].get(key), elapsed) for name in names}
    rates = {name: value for name, value in rates.items() if value is not None}
    return rates if rates or not last else None


def counted(last):
    """Return the counters that totals are made of."""
    return {name: counters for name, counters in (last or {}).items() if counters["once"]}


def parts_of(rates, last):
    """Return the rates that make a total; none if one of them is unknown: the rest would be too low."""
    names = counted(last)
    known = [rates[name] for name in names if name in (rates or {})]
    return known if len(known) == len(names) else []


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
    same = list(was) == list(cores)  # the total of another set of CPUs has grown by what one had before
    shares = shares_of((first or {}).get("total") or {}, times) if same else {}
    usages = [shares_of(was[n], cores[n]).get("usage") for n in cores] if same else []
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
    counters = counted(last)
    return {
        "disk_io_read": sum_of(parts_of(read, last)),
        "disk_io_write": sum_of(parts_of(write, last)),
        "disk_io_busy": max(parts_of(busy, last), default=None),
        "device_read": read,
        "device_write": write,
        "device_busy": busy,
        "disk_read_bytes": sum_of(c["read"] for c in counters.values()),
        "disk_write_bytes": sum_of(c["write"] for c in counters.values()),
    }


def _build_network(first, last, elapsed):
    keys = ("recv", "sent", "errors", "drops")
    recv, sent, errors, drops = (rates_of(first, last, key, elapsed) for key in keys)
    counters = counted(last)
    return {
        "network_io_recv": sum_of(parts_of(recv, last)),
        "network_io_sent": sum_of(parts_of(sent, last)),
        "network_errors": sum_of(parts_of(errors, last)),
        "network_drops": sum_of(parts_of(drops, last)),
        "interface_recv": recv,
        "interface_sent": sent,
        "network_recv_bytes": sum_of(c["recv"] for c in counters.values()),
        "network_sent_bytes": sum_of(c["sent"] for c in counters.values()),
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
