#!/bin/busybox sh
# The first process of the machine that `cargo xtask test-kernels` boots. What it has to say to the host stands in lines
# that begin with a word in brackets (kernels.rs).

export PATH=/usr/sbin:/usr/bin:/busybox HOME=/root
/bin/busybox mkdir -p /busybox /proc /sys /dev /run /root /tmp /var/lib
/bin/busybox --install -s /busybox
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t securityfs security /sys/kernel/security
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
dmesg -n 1
for module in loop xfs btrfs overlay; do modprobe $module; done

# The tests' files lie on ext4, as on most hosts.
truncate -s 700M /disk
mkfs.ext4 -q -F /disk
mount -o loop /disk /tmp || mount -t tmpfs tmp /tmp
chmod 1777 /tmp

# The firmware leaves its last line open.
echo
echo "[kernel] Linux $(uname -r), tests on $(stat -f -c %T /tmp), $(cat /sys/kernel/security/lsm)"
/tests/tally-agent doctor --watch /tmp 2>&1 | sed 's/^/[told] /'

# Tests that change the kernel until its next boot may do so here.
export TALLY_TEST_BOOT=1

# One test a process, as nextest does it.
one() {
    program=$1 name=$2
    if timeout 240 /tests/"$program" --exact "$name" --test-threads 1 --show-output >/run/out 2>&1 </dev/null; then
        echo "[passed] $program $name"
        sed -n "s/^skipped: /[skipped] $program $name: /p" /run/out | head -1
    else
        echo "[failed] $program $name ($?)"
        tail -25 /run/out | sed 's/^/[why] /'
    fi
}

cd /tmp
while read -r program pattern; do
    /tests/"$program" --list --format terse 2>/dev/null | sed -n 's/: test$//p' | grep -E "$pattern" | sed "s/^/$program /"
done </tests/plan | grep -F "$(cat /filter)" >/run/all
# Those come last, by their names.
{ grep -v until_the_next_boot /run/all; grep until_the_next_boot /run/all; } | while read -r program name; do
    one "$program" "$name"
done
echo "[end] ok"
reboot -f
