# The agent for hosts without Python: prints files of /proc and /sys, which the worker then reads as the agent does.
#
# Any POSIX shell runs it: dash, ash of busybox, bash. It is evaluated with the agent's arguments, after the worker has
# set `pseudo`, the types of filesystems that are none. Every block starts on a line of its own with the mark that the
# worker has drawn, so whatever a file holds cannot be taken for one.
# shellcheck shell=sh disable=SC2154

arguments=$(printf '%s\n' "$@")
LC_ALL=C # the messages of stat and df in English, which the worker knows
export LC_ALL
probe_seconds=2 # how long all mounts together may delay the sample: a dead NFS server never answers
window=1
limit=
included=
excluded=
line_feed='
'
while [ $# -gt 1 ]; do
  case $1 in
    --sentinel) mark=$2 ;;
    --window) window=$2 ;;
    --limit) limit=${2%%.*} ;;
    --include) case $2 in mounts=*) included=$included${2#mounts=}$line_feed ;; esac ;;
    --exclude) case $2 in mounts=*) excluded=$excluded${2#mounts=}$line_feed ;; esac ;;
  esac
  shift 2
done

end_below() { # PID: ends what it has started, and what that has, but for this watch
  for entry in /proc/[0-9]*/stat; do
    { read -r child _ _ parent _ <"$entry"; } 2>/dev/null || continue
    [ "$parent" = "$1" ] && [ "$child" != "$watch" ] || continue
    kill -STOP "$child" # or it would start more
    (end_below "$child")
    kill -9 "$child"
  done
}

watch_limit() { # in a process of its own, which ends with this shell: at the limit it ends the shell
  read -r watch _ </proc/self/stat
  while [ "$limit" -gt 0 ]; do
    sleep 1
    kill -0 $$ || exit 0
    limit=$((limit - 1))
  done
  kill -STOP $$
  end_below $$
  kill -9 $$
}

print_time() { # KIND
  now=$(date +%s.%N)
  case $now in
    *[!0-9.]* | *.) now=$(date +%s).5 ;; # whole seconds only: their middle
  esac
  printf '\n%s:%s {"time": %s}\n' "$mark" "$1" "$now"
}

show() { # FILE...
  for file; do
    [ -r "/$file" ] || continue
    printf '\n%s:file %s\n' "$mark" "$file"
    cat "/$file" 2>/dev/null || printf '\n%s:lost\n' "$mark"
  done
}

show_connections() { # FILE...: the first line and what parse_tcp counts; of many sockets all would be megabytes
  for file; do
    [ -r "/$file" ] || continue
    printf '\n%s:file %s\n' "$mark" "$file"
    sed -n '1p;/ 01 /s/.*/ 01 /p' "/$file" 2>/dev/null || printf '\n%s:lost\n' "$mark"
  done
}

show_levels() { # DIRECTORY PATH NAME...: the files of these names there and in all directories above
  top=$1
  level=${2%/}
  shift 2
  while :; do
    for name; do show "$top$level/$name"; done
    [ -n "$level" ] || return 0
    level=${level%/*}
  done
}

show_cgroups() {
  unified=sys/fs/cgroup
  [ -d /sys/fs/cgroup/unified ] && unified=sys/fs/cgroup/unified
  [ -r /proc/self/cgroup ] || return 0
  while IFS=: read -r _ controllers path; do
    case $path/ in */../*) path= ;; esac
    case ,$controllers, in
      ,,) show_levels "$unified" "$path" memory.max memory.current memory.stat cpu.max cpu.stat ;;
    esac
    case ,$controllers, in
      *,memory,*) show_levels sys/fs/cgroup/memory "$path" \
        memory.limit_in_bytes memory.usage_in_bytes memory.stat ;;
    esac
    case ,$controllers, in
      *,cpu,*)
        show_levels sys/fs/cgroup/cpu "$path" cpu.cfs_quota_us cpu.cfs_period_us
        show_levels sys/fs/cgroup/cpuacct "$path" cpuacct.usage
        ;;
    esac
  done </proc/self/cgroup
}

show_numbers() { # what tells a disk or interface from another one of its name; read without a process for each
  for path in /sys/block/*/diskseq /sys/class/net/*/ifindex; do
    { read -r number <"$path"; } 2>/dev/null || continue
    printf '\n%s:file %s\n%s\n' "$mark" "${path#/}" "$number"
  done
}

show_counters() {
  printf '\n%s:snapshot\n' "$mark"
  show proc/uptime proc/stat proc/diskstats proc/net/dev proc/vmstat proc/self/cgroup
  show_cgroups
  show_numbers
  # Names without their files: what disks and interfaces stand on, and the processes.
  printf '\n%s:names\n' "$mark"
  printf '%s\n' /sys/block/* /sys/block/*/slaves/* /sys/class/net/* /sys/class/net/*/lower_* \
    /sys/class/net/*/slave_* /sys/class/net/*/bonding /sys/class/net/*/device /sys/class/net/*/bridge \
    /proc/net/vlan/* /proc/net/bonding/* /proc/[0-9]*
  for bond in /proc/net/bonding/*; do show "${bond#/}"; done
}

show_states() {
  show_connections proc/net/tcp proc/net/tcp6
  show proc/meminfo proc/loadavg proc/sys/kernel/random/boot_id proc/sys/fs/file-nr \
    proc/pressure/cpu proc/pressure/memory proc/pressure/io proc/self/mounts
  printf '\n%s:units %s\n' "$mark" \
    "$(getconf CLK_TCK 2>/dev/null || echo 100) $(getconf PAGESIZE 2>/dev/null || read_page_size)"
}

read_page_size() {
  sed -n '/^KernelPageSize:/{s/[^0-9]//g;s/$/*1024/;p;q;}' /proc/self/smaps 2>/dev/null
}

pause() { # SECONDS: some that are no whole number are more than an old sleep can do
  sleep "$1" 2>/dev/null || sleep 1
}

wait_window() { # once a second something is printed: that ends this process when nobody reads it any more
  case $window in *e*) return 0 ;; esac
  seconds=${window%%.*}
  while [ "$seconds" -gt 0 ]; do
    printf '\n' || exit 3
    sleep 1
    seconds=$((seconds - 1))
  done
  case $window in *.*) pause "0.${window#*.}" ;; esac
}

matches() { # NAME PATTERNS
  set -f
  IFS=$line_feed
  for pattern in $2; do
    # shellcheck disable=SC2254
    case $1 in $pattern) unset IFS && set +f && return 0 ;; esac
  done
  unset IFS
  set +f
  return 1
}

is_wanted() { # MOUNT_POINT TYPE
  if [ "$1" != / ]; then
    if [ -n "$included" ]; then
      matches "$1" "$included" || return 1
    else
      case " $pseudo " in *" $2 "*) return 1 ;; esac
    fi
  fi
  ! matches "$1" "$excluded"
}

is_running() { # PID: of a probe of this shell, and not of another process that has its number by now
  { read -r _ _ state parent _ <"/proc/$1/stat"; } 2>/dev/null && [ "$parent" = $$ ] && [ "$state" != Z ]
}

some_run() {
  for pid in $pids; do
    is_running "$pid" && return 0
  done
  return 1
}

probe() { # COMMAND...: on each mount point, each in a process of its own, for that of a dead mount never returns
  printf '\n%s:probe %s\n' "$mark" "$1 $2 $3"
  pids=
  seen=$line_feed
  [ -r /proc/self/mounts ] || return 0
  while read -r device point type _; do
    case $point in
      *\\*) point=$(printf "$(printf '%s' "$point" | sed 's/%/%%/g')x") && point=${point%x} ;;
    esac
    is_wanted "$point" "$type" || continue
    case $device in
      /* | *:*) # a filesystem, which can be mounted many times
        case $seen in *"$line_feed$device$line_feed"*) continue ;; esac
        seen=$seen$device$line_feed
        ;;
    esac
    exec "$@" "$point" 2>&1 &
    pids="$pids $!"
  done </proc/self/mounts
  read -r up _ </proc/uptime
  end=$((${up%%.*} + probe_seconds))
  for nap in 0.01 0.05 0.1 0.2 0.3 0.5 0.5 0.5 0.5; do
    some_run || return 0
    printf '\n' || break
    pause $nap
    read -r up _ </proc/uptime
    [ "${up%%.*}" -le "$end" ] || break
  done
  some_run || return 0
  for pid in $pids; do
    is_running "$pid" && kill -9 "$pid"
  done
  return 1
}

watcher=
if [ -n "$limit" ]; then
  watch_limit </dev/null >/dev/null 2>&1 &
  watcher=$!
fi
print_time hello
printf '%s:begin\n%s:arguments\n%s\n' "$mark" "$mark" "$arguments"
show_counters
wait_window
show_counters
show_states
if stat -f -c %S / >/dev/null 2>&1; then
  probe stat -f -c 'statvfs %S %b %f %a %c %d %n'
else
  probe df -P -k && probe df -P -i
fi
print_time end
[ -z "$watcher" ] || kill "$watcher" 2>/dev/null
exit 0
