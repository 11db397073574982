# Holds a test's namespaces; see host.rs. Arguments: the host's id, its directory.
id=$1
dir=$2
slice=$(echo "$id" | tr -d -).slice

mount --make-rshared / || exit 1
mkdir -p /run/netns /var/lib/cni
mount -t tmpfs -o mode=755 tmpfs /run/netns || exit 1
mount -t tmpfs -o mode=755 tmpfs /var/lib/cni || exit 1
ip link set lo up || exit 1
echo ready
exec >/dev/null 2>&1

# Until the test ends, in whatever way.
trap '' INT TERM HUP
cat

in_cgroups() {
    find /sys/fs/cgroup -mindepth 1 -maxdepth 2 \( -name "$id" -o -name "$slice" \) -type d
    # Pods that asked for no cgroup are below the one that all daemons share.
    for pod in "$dir"/root/sandboxes/*; do
        pod=${pod##*/}
        case $pod in "" | *[!0-9a-f]*) continue ;; esac
        find /sys/fs/cgroup -mindepth 2 -maxdepth 3 \( -name "$pod" -o -name "podwright-$pod.slice" \) -type d
    done
}

kill_all() {
    own=$(readlink /proc/$$/ns/mnt)
    found=1
    for ns in /proc/[0-9]*/ns/mnt; do
        pid=${ns#/proc/}
        pid=${pid%%/*}
        if [ "$pid" != $$ ] && [ "$(readlink "$ns")" = "$own" ] && [ "$(ps -o ppid= -p "$pid" | tr -d ' ')" != $$ ]; then
            kill -9 "$pid" && found=0
        fi
    done
    for group in $(in_cgroups); do
        for procs in $(find "$group" -name cgroup.procs); do
            while read -r pid; do
                kill -9 "$pid" && found=0
            done <"$procs"
        done
    done
    return $found
}

# A killed process may have started another one meanwhile.
tries=0
while kill_all && [ $tries -lt 100 ]; do
    tries=$((tries + 1))
    sleep 0.05
done
for group in $(in_cgroups); do
    find "$group" -depth -type d -exec rmdir {} \;
done
while read -r _ _ _ _ point _; do
    case $point in "$dir"/*) umount -l "$point" ;; esac
done </proc/self/mountinfo
rm -rf "$dir"
