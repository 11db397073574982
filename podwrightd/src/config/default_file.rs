//! The commented file that `podwrightd config default` prints. A test holds it against the defaults.

/// A configuration in which every key has its default. Keys whose default is "absent" stand in comments.
pub(crate) const DEFAULT_FILE: &str = r#"# Configuration of podwrightd. Every key may be left out; what stands here is the default.
# Check a changed file with: podwrightd config check FILE

# Records, images and writable layers.
root = "/var/lib/podwright"
# Sockets and pids. May be lost at a reboot.
state = "/run/podwright"
# Where the CRI is served: kubelet's --container-runtime-endpoint.
listen = "unix:///run/podwright/podwright.sock"
# The shim's binary. Empty: beside podwrightd, then /usr/libexec/podwright/podwright-shim.
shim = ""
# How long a stop (SIGTERM) waits for calls in flight, in seconds.
drain_seconds = 30

[log]
# error, warn, info, debug or trace.
level = "info"
# text (for people) or json (one object a line).
format = "text"

[streaming]
# Where exec, attach and port forwarding are served to kubelet and crictl, in plain text: an address of the loopback. Port 0: any
# that is free.
address = "127.0.0.1:0"

[cgroup]
# auto, cgroupfs or systemd. Must be what kubelet has as cgroupDriver; kubelet asks us for it since 1.31.
# auto takes systemd where it runs the machine on cgroup v2.
driver = "auto"

[network]
# auto: the embedded network until a kubelet sends UpdateRuntimeConfig, CNI plugins from then on.
# embedded: always our own network. cni: always plugins; nodes of a cluster want this.
mode = "auto"

[network.cni]
# Directories with conflists; the first valid file in lexical order is used, and read again when it changes.
conf_dirs = ["/etc/cni/net.d"]
# Directories with plugins.
bin_dirs = ["/opt/cni/bin", "/usr/lib/cni"]
# Time limit of one ADD or DEL with all its plugins, in seconds.
timeout_seconds = 100

[network.embedded]
# Address ranges of the pods. Absent: a /16 of 10.192.0.0/10 that no route of the host overlaps, and a unique local /64.
#ipv4_pool = "10.200.0.0/16"
#ipv6_pool = "fd00:10:200::/64"
# Whether pods get IPv6 addresses, where the kernel can.
ipv6 = true
# MTU of the pods' links, in bytes. Absent: that of the link with the default route.
#mtu = 1500

[images]
# Directory of <host>/hosts.toml files (mirrors, CAs, headers), as containerd reads them.
hosts_dir = "/etc/podwright/certs.d"
# Mirrors, insecure and blocked registries as podman and CRI-O read them, with drop-ins in registries.conf.d beside it; need not exist.
# The hosts.toml of a registry goes before what stands here, but what is blocked is blocked. Empty: not read.
registries_conf = "/etc/containers/registries.conf"
# Docker's config.json, for credentials where a pull brings none. Empty: none. Credential helpers are not executed.
docker_config = ""
# Private keys (PEM: RSA, or P-256, P-384, P-521) that open encrypted images, as skopeo and podman encrypt them (jwe). They are the
# node's: whoever may run pods here can run such an image. Empty: none.
decryption_keys_dir = "/etc/podwright/keys"
# Which signatures images must have: a policy.json (containers-policy.json(5)), read anew at each pull and each container. Empty: none,
# every image is accepted. A policy that is named here and can not be read refuses every image.
signature_policy = ""
# Policies of namespaces: DIR/NAMESPACE.json takes the place of signature_policy for the pods of a namespace. Empty: none.
signature_policy_dir = ""
# Where signatures are (containers-registries.d(5)): lookaside servers, and whether cosign's tags in the registry count.
registries_dir = "/etc/containers/registries.d"
# Images that kubelet never collects: references, ids, or names with *, as "registry.k8s.io/*".
pinned = []
# Layers that one pull, and all pulls together, download at a time.
downloads_per_pull = 4
downloads_total = 8
# Largest layer after decompression, in MiB.
max_layer_mebibytes = 65536

[pods]
# Where network namespaces are pinned for CNI plugins.
netns_dir = "/run/netns"
# Resolver configuration of pods that bring none.
resolv_conf = "/etc/resolv.conf"
# Size of a pod's /dev/shm, in MiB.
shm_mebibytes = 64

[security]
# Whether containers run as container_t, and their files are container_file_t, at a level of their pod's own, where the host has SELinux
# and its policy knows these types. false: what the CRI asks of SELinux is ignored, as on a host without it.
selinux = true

[cdi]
# Directories with CDI specifications (JSON and YAML) of devices that pods ask for by name; a later directory goes before an earlier one.
# They are read when a device is asked for. [] for none.
spec_dirs = ["/etc/cdi", "/var/run/cdi"]

[hooks]
# Directories with OCI hooks as CRI-O and podman read them (oci-hooks(5)); a file of a later directory replaces that of the same name.
# They are read when a container is made. [] for none.
dirs = ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"]

[checkpoint]
# CRIU, with which containers are written to archives (kubelet's checkpoint API). Looked for when it is asked for.
criu = "/usr/sbin/criu"
# Whether a container may be made from such an archive, whose path stands in the place of an image's name. This is not ready, and true is
# refused: a forged archive could run processes outside of its container.
restore = false

[nri]
# Whether plugins of the Node Resource Interface may change containers. Without a plugin this costs nothing.
enabled = true
# Where plugins dial in. Only root can; who dials in changes containers at will. "" for nowhere.
socket = "/var/run/nri/nri.sock"
# Directory of plugins that are launched with podwrightd, named NN-name, and of their configurations, NN-name.conf or name.conf.
plugin_dir = "/opt/nri/plugins"
config_dir = "/etc/nri/conf.d"
# For a plugin to register, to be configured and to be told all that is there, each; and to answer a request, in seconds. One that is
# late is let go of, and what it was asked about fails.
registration_seconds = 5
request_seconds = 2

[runtimes]
# Directories with NAME.toml files, one for each runtime handler (RuntimeClass) beside the built-in one, such as crun.toml:
#   [runtime]
#   type = "oci"                 # it has the command line of an OCI runtime
#   path = "/usr/bin/crun"
#   #options = []                # arguments before each command
#   #deadline_seconds = 30       # for one command
#   #root = "/run/crun"          # its state; absent: below `state`
# They are read when a pod is made; pods that run keep what they were made with. [] for none.
dirs = ["/etc/podwright/runtimes.d"]
"#;
