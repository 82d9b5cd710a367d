"""What is tried inside a replica in order to get out, to see or to change: lines of shell, each of which must fail.

The list is run as one script with one line per attempt, so that a hundred attempts cost one job or one shell.
"""

from __future__ import annotations

PY = "/usr/bin/python3 -c"
# system calls by number: x86_64 only
SYSCALL = (
    f"{PY} 'import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True); result = libc.syscall(*map(int, sys.argv[1:]));"
    " sys.exit(0 if result >= 0 else 40 + ctypes.get_errno())'"
)
EPERM = 41

MUST_FAIL = {
    # name: shell line
    "write root": "touch /x",
    "write usr": "touch /usr/x",
    "write etc": "touch /etc/x",
    "write facts": "touch /etc/ucloud/x",
    "change a fact": "echo 7 > /etc/ucloud/rank.txt",
    "change hosts": "echo x >> /etc/hosts",
    "see the home of root": "ls /root",
    "see home folders": "ls /home",
    "see var": "ls /var",
    "read shadow": "cat /etc/shadow",
    "sockets of the host": "ls /run/*",
    "mount": "mount -t tmpfs x /tmp",
    "remount": "mount -o remount,rw /usr",
    "umount": "umount /work",
    "user namespace": "unshare -U true",
    "root in a namespace": "unshare -Urm true",
    "chroot": "chroot / true",
    "root of pid 1": "ls /proc/1/root/root",
    "enter pid 1": "nsenter -t 1 -m true",
    "become root": "su -c true",
    "give a file away": "touch /work/mine && chown 1 /work/mine",
    "block device": "mknod /work/b b 8 0",
    "kernel log": "dmesg",
    "core pattern": "echo x > /proc/sys/kernel/core_pattern",
    "forwarding": "echo 1 > /proc/sys/net/ipv4/ip_forward",
    "cgroups": "ls /sys/fs/cgroup",
    "folder of the kernel": "ls /sys/kernel",
    "raise the process limit": "prlimit --nproc=9999999 true",
    "loopback down": "ip link set lo down",
    "tun": "ls /dev/net/tun",
    "kmsg": "ls /dev/kmsg",
    "mem": "ls /dev/mem",
    "disk": "ls /dev/vda /dev/sda /dev/nvme0n1",
    "capabilities": "test $(grep -c 'Cap.*0000000000000000' /proc/self/status) != 5",
    "no_new_privs": "grep -q 'NoNewPrivs:.0' /proc/self/status",
    "no filter": "grep -q 'Seccomp:.0' /proc/self/status",
    "see other processes": "test $(ls -d /proc/[0-9]* | wc -l) -gt 12",
    "host paths in pid 1": "tr '\\0' ' ' < /proc/1/cmdline | grep -q -- '--ro-bin[d]'",
    "environment of pid 1": "tr '\\0' '\\n' < /proc/1/environ | grep -vq '^PATH='",
    "vsock": f"{PY} 'import socket; socket.socket(40, socket.SOCK_STREAM)'",
    "alg socket": f"{PY} 'import socket; socket.socket(38, socket.SOCK_SEQPACKET)'",
    "packet socket": f"{PY} 'import socket; socket.socket(17, socket.SOCK_RAW)'",
    "raw socket": f"{PY} 'import socket; socket.socket(2, socket.SOCK_RAW, 1)'",
    "a route to anywhere": "tail -n +2 /proc/net/route | grep -q .",
    "setuid file": "touch /work/s && chmod 4755 /work/s",
    "setgid file": "touch /work/s && chmod g+s /work/s",
    "setuid by fchmod": f"{PY} 'import os; os.fchmod(os.open(\"/work/s\", 66), 0o4755)'",
    "setuid by open": f"{PY} 'import os; os.open(\"/work/born\", os.O_CREAT | os.O_RDWR, 0o4755)'",
    "setuid by mknod": f"{PY} 'import os; os.mknod(\"/work/node\", 0o104755)'",
    "fill memory through /dev": "echo x > /dev/fill",
    "private keys of the host": "ls /etc/ssl/private",
    "odd pair of sockets": f"{PY} 'import socket; socket.socketpair(40)'",
    "type into the terminal": f"{PY} 'import fcntl; fcntl.ioctl(0, 0x5412, b\"x\")'",
    "change an input": "echo x >> /work/input/file || false",
    "make a file in an input": "touch /work/input/new",
    "out of an input": "cat /work/input/../../../../input-secret /work/input/link",
    "unmount an input": "umount /work/input",
    "replace an input": "mv /work/input /work/other || rmdir /work/input",
    "abstract sockets of the host": "grep -q serai-attack /proc/net/unix",
    "host of pid 1": "ls /proc/1/cwd/newroot /proc/1/cwd/oldroot",
    "kill a process of the host": "kill -0 {host_pid}",
    "trace a process of the host": f"{PY} 'import ctypes; exit(ctypes.CDLL(None).ptrace(16, {{host_pid}}, 0, 0) < 0)'",
    "interfaces": "ip link add type veth",
    "addresses": "ip addr add 10.1.2.3/8 dev lo",
    "routes": "ip route add default dev lo",
    "dmesg by file": "cat /proc/kmsg",
    "kernel memory": "head -c 1 /proc/kcore",
    "system request": "echo h > /proc/sysrq-trigger",
    "host name": "hostname other",
    "clock": "date -s 2001-01-01",
    "nice": "nice -n -5 true 2>&1 | grep -qv 'cannot set'",
}

FILTERED = {
    # name: system call and arguments that would be valid: EPERM is the filter's word
    "keyctl": "250 0 -3 0",
    "add_key": "248 0 0 0 0 0",
    "bpf": "321 0 0 0",
    "io_uring_setup": "425 1 0",
    "userfaultfd": "323 1",
    "perf_event_open": "298 0 0 -1 -1 0",
    "pivot_root": "155 0 0",
    "mount": "165 0 0 0 0 0",
    "setns": "308 0 0",
    "unshare": "272 0",
    "reboot": "169 0 0 0 0",
    "open_by_handle_at": "304 0 0 0",
    "clone in a user namespace": "56 268435473 0 0 0 0",
}


def script(lines: dict[str, str]) -> str:
    """Prints `name=exit code` for each line."""
    shell = "".join(f"( {line} ) >/dev/null 2>&1; echo '{name}='$?\n" for name, line in lines.items())
    return "cd /work\n" + shell


def codes(text: str) -> dict[str, int]:
    return {name: int(code) for name, _, code in (line.rpartition("=") for line in text.splitlines())}
