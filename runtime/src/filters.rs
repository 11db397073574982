//! Compiled default filters, kept by the caller so that its children do not compile them again and again. Each child inherits
//! what is here by the clone.

use std::cell::RefCell;
use std::rc::Rc;

use oci_spec::runtime::{Capabilities, Process};

use crate::launch::SeccompChoice;
use crate::seccomp::{self, Filter, SeccompError};

/// Most filters that are kept; the containers of a pod rarely differ in more than a few sets of capabilities.
const MAX_KEPT: usize = 8;

thread_local! {
    static KEPT: RefCell<Vec<(Capabilities, Rc<Filter>)>> = const { RefCell::new(Vec::new()) };
}

/// The capabilities that a default filter depends on.
pub(crate) fn bounding(process: &Process) -> Capabilities {
    process.capabilities().as_ref().and_then(|sets| sets.bounding().clone()).unwrap_or_default()
}

/// Compiles before the clone what the child will ask for. A profile that can not be compiled is told by the child.
pub(crate) fn warm(choice: &SeccompChoice, process: &Process) {
    if matches!(choice, SeccompChoice::RuntimeDefault) {
        let _ = default_for(&bounding(process));
    }
}

/// The default filter for these capabilities.
pub(crate) fn default_for(capabilities: &Capabilities) -> Result<Rc<Filter>, SeccompError> {
    KEPT.with_borrow_mut(|kept| {
        if let Some((_, filter)) = kept.iter().find(|(of, _)| of == capabilities) {
            return Ok(Rc::clone(filter));
        }
        let filter = Rc::new(seccomp::compile(&seccomp::runtime_default(capabilities)?)?);
        if kept.len() >= MAX_KEPT {
            kept.remove(0);
        }
        kept.push((capabilities.clone(), Rc::clone(&filter)));
        Ok(filter)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_bounded_number_and_returns_the_same() {
        use oci_spec::runtime::Capability;
        let none = Capabilities::new();
        let admin: Capabilities = [Capability::SysAdmin].into_iter().collect();
        let first = default_for(&none).unwrap();
        assert!(Rc::ptr_eq(&first, &default_for(&none).unwrap()));
        assert!(!Rc::ptr_eq(&first, &default_for(&admin).unwrap()));
        KEPT.with_borrow(|kept| assert!(kept.len() <= MAX_KEPT));
    }
}
