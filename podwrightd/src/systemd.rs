//! The systemd cgroup driver: scopes for processes, made and ended over D-Bus.
//!
//! Owns the connection to the system bus. The shim clones a process that waits; [`Systemd::start_scope`] puts it into a scope
//! with its limits, then the shim releases it. Limits are given as unit properties too, because systemd writes a unit's
//! properties again at every reload and would undo what was written to the files alone.

mod limits;
mod manager;

use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, Value};

pub(crate) use limits::ScopeLimits;
use manager::ManagerProxy;

/// A request to systemd that takes longer, with its job, has hung.
const JOB_LIMIT: Duration = Duration::from_secs(30);

/// Why systemd did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SystemdError {
    /// No system bus, or no systemd behind it.
    #[error("cannot reach systemd over the system bus; is dbus running? set cgroup.driver to cgroupfs to do without")]
    Connect(#[source] zbus::Error),
    /// systemd refused.
    #[error("systemd refused to {step} {unit}")]
    Refused {
        /// What was asked for.
        step: &'static str,
        /// Unit.
        unit: String,
        /// Its answer.
        #[source]
        cause: zbus::Error,
    },
    /// The job ended otherwise than with `done`.
    #[error("systemd's job to {step} {unit} ended with {result:?}; see: systemctl status {unit}")]
    Job {
        /// What was asked for.
        step: &'static str,
        /// Unit.
        unit: String,
        /// systemd's word.
        result: String,
    },
    /// The job did not end.
    #[error("systemd did not {step} {unit} within {} s; see: systemctl list-jobs", JOB_LIMIT.as_secs())]
    TimedOut {
        /// What was asked for.
        step: &'static str,
        /// Unit.
        unit: String,
    },
}

/// A connection to systemd, made when it is first needed and again after it broke.
#[derive(Debug, Default)]
pub(crate) struct Systemd {
    connection: Mutex<Option<Connection>>,
}

impl Systemd {
    /// Puts a process into a new scope below a slice, which systemd makes as needed. If the scope exists already (a repeated call),
    /// the process joins it.
    ///
    /// # Errors
    /// systemd is not there, refuses, or does not come to an end.
    pub(crate) async fn start_scope(
        &self,
        unit: &str,
        slice: &str,
        pid: u32,
        limits: &ScopeLimits,
    ) -> Result<(), SystemdError> {
        within_limit("start", unit, self.try_start_scope(unit, slice, pid, limits)).await
    }

    async fn try_start_scope(
        &self,
        unit: &str,
        slice: &str,
        pid: u32,
        limits: &ScopeLimits,
    ) -> Result<(), SystemdError> {
        let manager = self.manager().await?;
        // What a crash may have left in state "failed" keeps its name taken.
        let _ = manager.reset_failed_unit(unit).await;
        let mut properties = vec![
            ("Description", Value::from(format!("Podwright {unit}"))),
            ("Slice", Value::from(slice)),
            ("PIDs", Value::from(vec![pid])),
            ("Delegate", Value::from(true)),
            ("DefaultDependencies", Value::from(false)),
            ("CollectMode", Value::from("inactive-or-failed")),
            // Else systemd's default for services holds, a few thousand; a limit that was asked for comes after.
            ("TasksMax", Value::from(u64::MAX)),
        ];
        properties.extend(limits.properties());
        let step = "start";
        match run_job(&manager, step, unit, manager.start_transient_unit(unit, "fail", &properties, &[])).await {
            Err(SystemdError::Refused { cause, .. }) if is_named(&cause, "UnitExists") => {
                let attached = manager.attach_processes_to_unit(unit, "", &[pid]).await;
                attached.map_err(|cause| SystemdError::Refused {
                    step: "attach a process to",
                    unit: unit.to_owned(),
                    cause,
                })
            }
            other => other,
        }
    }

    /// Changes the limits of a scope.
    ///
    /// # Errors
    /// systemd is not there, or refuses.
    pub(crate) async fn update_scope(&self, unit: &str, limits: &ScopeLimits) -> Result<(), SystemdError> {
        let step = "change the limits of";
        let update = async {
            let refused = |cause| SystemdError::Refused { step, unit: unit.to_owned(), cause };
            self.manager().await?.set_unit_properties(unit, true, &limits.properties()).await.map_err(refused)
        };
        within_limit(step, unit, update).await
    }

    /// Ends a scope or slice, killing what is in it; an unknown one is success.
    ///
    /// # Errors
    /// systemd is not there, refuses, or does not come to an end.
    pub(crate) async fn stop_unit(&self, unit: &str) -> Result<(), SystemdError> {
        within_limit("stop", unit, self.try_stop_unit(unit)).await
    }

    async fn try_stop_unit(&self, unit: &str) -> Result<(), SystemdError> {
        let manager = self.manager().await?;
        let stopped = run_job(&manager, "stop", unit, manager.stop_unit(unit, "replace")).await;
        let _ = manager.reset_failed_unit(unit).await;
        match stopped {
            Err(SystemdError::Refused { cause, .. }) if is_named(&cause, "NoSuchUnit") => Ok(()),
            other => other,
        }
    }

    async fn manager(&self) -> Result<ManagerProxy<'static>, SystemdError> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref()
            && answers(connection).await
        {
            return ManagerProxy::new(connection).await.map_err(SystemdError::Connect);
        }
        let connection = Connection::system().await.map_err(SystemdError::Connect)?;
        let manager = ManagerProxy::new(&connection).await.map_err(SystemdError::Connect)?;
        // Without a subscriber systemd sends no JobRemoved.
        manager.subscribe().await.map_err(SystemdError::Connect)?;
        *held = Some(connection);
        Ok(manager)
    }
}

/// Asks for a job and waits for its end. Signals are listened for before the job exists, so that its end is not missed.
async fn run_job(
    manager: &ManagerProxy<'_>,
    step: &'static str,
    unit: &str,
    request: impl Future<Output = zbus::Result<OwnedObjectPath>>,
) -> Result<(), SystemdError> {
    let refused = |cause| SystemdError::Refused { step, unit: unit.to_owned(), cause };
    let mut ended = manager.receive_job_removed().await.map_err(refused)?;
    let job = request.await.map_err(refused)?;
    let wait = async {
        while let Some(signal) = ended.next().await {
            if let Ok(arguments) = signal.args()
                && arguments.job.as_str() == job.as_str()
            {
                return Some(arguments.result.to_owned());
            }
        }
        None
    };
    let result = wait.await.unwrap_or_else(|| "the connection to systemd was lost".to_owned());
    if result == "done" || result == "skipped" {
        return Ok(());
    }
    Err(SystemdError::Job { step, unit: unit.to_owned(), result })
}

/// Bounds all of a request: a bus or a systemd that hangs answers no call, and whoever waits holds the connection.
async fn within_limit<T>(
    step: &'static str,
    unit: &str,
    request: impl Future<Output = Result<T, SystemdError>>,
) -> Result<T, SystemdError> {
    match timeout(JOB_LIMIT, request).await {
        Ok(result) => result,
        Err(_) => Err(SystemdError::TimedOut { step, unit: unit.to_owned() }),
    }
}

/// Whether systemd is still behind a connection; dbus may have been restarted.
async fn answers(connection: &Connection) -> bool {
    let peer = zbus::fdo::PeerProxy::new(connection, "org.freedesktop.systemd1", "/org/freedesktop/systemd1").await;
    match peer {
        Ok(peer) => peer.ping().await.is_ok(),
        Err(_) => false,
    }
}

/// Whether an answer is the named error of systemd's.
fn is_named(error: &zbus::Error, name: &str) -> bool {
    matches!(error, zbus::Error::MethodError(full, _, _) if full.rsplit('.').next() == Some(name))
}
