//! Exec, Attach and PortForward, with crictl over both transports, and with clients that mean no good.

#[path = "streaming/crictl.rs"]
mod crictl;
#[path = "streaming/hostile.rs"]
mod hostile;
