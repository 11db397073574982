use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use oci_spec::runtime::Spec;

use super::*;
use crate::model::{ContainerSnapshot, SandboxSnapshot};
use crate::ports::{Extensions, PortError, Turn};

const MARK: &str = "it was adjusted";

/// Adjusts all, and says that it does or not.
#[derive(Default)]
struct Parts {
    adjusts: AtomicBool,
    listens: AtomicBool,
    /// Who listens comes before the next turn.
    joins: AtomicBool,
}

#[async_trait]
impl Extensions for Parts {
    fn listens(&self) -> bool {
        self.listens.load(Ordering::SeqCst)
    }

    async fn turn(&self) -> Turn {
        if self.joins.load(Ordering::SeqCst) {
            self.listens.store(true, Ordering::SeqCst);
        }
        Turn::free()
    }

    fn adjusts(&self, _config: &ContainerConfig) -> bool {
        self.adjusts.load(Ordering::SeqCst)
    }

    async fn adjust(
        &self,
        _sandbox: &SandboxSnapshot,
        _container: &ContainerSnapshot,
        mut spec: Spec,
    ) -> Result<Spec, PortError> {
        spec.set_annotations(Some([("mark".to_owned(), MARK.to_owned())].into()));
        Ok(spec)
    }
}

#[test]
fn a_specification_is_adjusted_where_somebody_might() {
    let node = Node::new();
    let parts = Arc::new(Parts::default());
    let ports = Ports { extensions: parts.clone(), ..node.world.ports() };
    let daemon = node.try_start_with("boot 1", ports).unwrap();
    let pod = daemon.sandbox("a");
    let adjusted = |name: &str| {
        let id = daemon.run(daemon.engine.create_container(&pod, ctr(name, "sleep"))).unwrap();
        let in_memory = daemon.engine.container(&id).unwrap().runtime_spec;
        let path = node.disk.path().join("root/containers").join(id.as_str()).join("config.json");
        assert_eq!(std::fs::read_to_string(path).unwrap(), *in_memory);
        in_memory.contains(MARK)
    };
    assert!(!adjusted("nobody"));
    parts.adjusts.store(true, Ordering::SeqCst);
    assert!(adjusted("a part of the operator's"));
    parts.adjusts.store(false, Ordering::SeqCst);
    parts.joins.store(true, Ordering::SeqCst);
    assert!(adjusted("who joins while it is made"));
    parts.joins.store(false, Ordering::SeqCst);
    assert!(adjusted("who listens"));
}
