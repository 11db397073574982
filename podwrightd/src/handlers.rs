//! Runtime handlers for the engine and for those who ask what the node can: the drop-in files, and what each runtime answered to its
//! `features` command. Runtimes are asked in tasks of their own; whoever wants a list gets what is known soon.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use podwright_cri::{HandlerInfo, HandlersReport};
use podwright_handlers::{Features, Handler, Kind, Problem, Registry, read_features};
use podwright_podsandbox::model;
use podwright_podsandbox::ports::{Handlers, PortError};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest wait for a runtime's answer to `features`.
const FEATURES_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait of a list for answers that are not there yet. The next list has them.
const LIST_WAIT_LIMIT: Duration = Duration::from_millis(500);
/// Longest answer that is read.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// Runtimes whose answers are kept; more than files can be there.
const MAX_ANSWERS: usize = 1024;

/// What one configuration of one installed program is known by.
type Key = (PathBuf, podwright_handlers::ProgramStamp, Vec<String>);
/// `None` while it is asked.
type Answer = watch::Receiver<Option<Result<Features, String>>>;

/// The handlers of the node.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeHandlers {
    registry: Arc<Registry>,
    answers: Arc<Mutex<HashMap<Key, Answer>>>,
    last: Arc<Mutex<HandlersReport>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RuntimeHandlers {
    pub(crate) fn new(directories: Vec<PathBuf>) -> Self {
        Self { registry: Arc::new(Registry::new(directories)), answers: Arc::default(), last: Arc::default() }
    }

    /// What is wrong with files now. Looks at the disk.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.registry.look().1
    }

    /// All of them, as far as it is known soon. A disk that does not answer leaves what was known before.
    pub(crate) async fn report(&self) -> HandlersReport {
        let registry = self.registry.clone();
        let looked = timeout(LIST_WAIT_LIMIT, tokio::task::spawn_blocking(move || registry.look())).await;
        let Ok(Ok((handlers, problems))) = looked else { return lock(&self.last).clone() };
        let mut report = HandlersReport {
            handlers: Vec::with_capacity(handlers.len()),
            problems: problems.iter().map(|p| format!("{}: {}", p.path.display(), p.reason)).collect(),
        };
        let asked: Vec<(Handler, Answer)> = handlers.into_iter().map(|h| (h.clone(), self.answer(&h))).collect();
        let all_told = async {
            for (_, answer) in &asked {
                let _ = answer.clone().wait_for(Option::is_some).await;
            }
        };
        let _ = timeout(LIST_WAIT_LIMIT, all_told).await;
        for (handler, answer) in asked {
            let features = match &*answer.borrow() {
                Some(Ok(features)) => *features,
                Some(Err(reason)) => {
                    report.problems.push(format!("{}: its features are not known: {reason}", handler.file.display()));
                    Features::default()
                }
                None => Features::default(),
            };
            report.handlers.push(HandlerInfo {
                name: handler.name,
                recursive_read_only_mounts: features.recursive_read_only_mounts,
                user_namespaces: false,
            });
        }
        lock(&self.last).clone_from(&report);
        report
    }

    /// The answer of a runtime, which is asked once for each program and its options.
    fn answer(&self, handler: &Handler) -> Answer {
        let key = (handler.runtime.path.clone(), handler.program, handler.runtime.options.clone());
        let mut answers = lock(&self.answers);
        if let Some(known) = answers.get(&key) {
            return known.clone();
        }
        if answers.len() >= MAX_ANSWERS {
            answers.clear();
        }
        let (sender, receiver) = watch::channel(None);
        let runtime = handler.runtime.clone();
        tokio::spawn(async move {
            let told = features(&runtime.path, &runtime.options).await;
            if let Err(reason) = &told {
                tracing::warn!(runtime = %runtime.path.display(), reason, "a runtime does not tell its features; none are assumed");
            }
            let _ = sender.send(Some(told));
        });
        answers.insert(key, receiver.clone());
        receiver
    }
}

/// Asks a runtime. One that does not answer is killed.
async fn features(program: &Path, options: &[String]) -> Result<Features, String> {
    let mut command = Command::new(program);
    command.args(options).arg("features").env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("execute {}: {error}", program.display()))?;
    let group = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()));
    let stdout = child.stdout.take();
    let answer = timeout(FEATURES_LIMIT, async {
        let mut bytes = Vec::new();
        if let Some(stdout) = stdout {
            stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, bytes))
    })
    .await;
    match answer {
        Ok(Ok((status, bytes))) if status.success() => read_features(&bytes),
        Ok(Ok((status, _))) => Err(format!("{} features ended with {status}", program.display())),
        Ok(Err(error)) => Err(format!("hear from {}: {error}", program.display())),
        Err(_) => {
            // Not reaped yet, so the group is still its own; whatever it started goes with it.
            if let Some(group) = group {
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            let _ = child.wait().await;
            Err(format!("{} features did not end within {} s", program.display(), FEATURES_LIMIT.as_secs()))
        }
    }
}

#[async_trait]
impl Handlers for RuntimeHandlers {
    async fn find(&self, name: &str) -> Result<model::Handler, PortError> {
        let (registry, asked) = (self.registry.clone(), name.to_owned());
        let found = tokio::task::spawn_blocking(move || registry.find(&asked)).await;
        let found = found.map_err(|error| PortError::Failed(format!("the task ended early: {error}")))?;
        let Handler { name, runtime, .. } = found.map_err(|error| PortError::Invalid(error.to_string()))?;
        Ok(model::Handler {
            name,
            kind: match runtime.kind {
                Kind::Oci => model::HandlerKind::Oci,
            },
            path: runtime.path.clone(),
            root: runtime.root.clone(),
            options: runtime.options.clone(),
            deadline_seconds: runtime.deadline_seconds,
        })
    }
}
