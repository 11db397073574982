//! What of the embedded network belongs to no pod.

use podwright_admin_api::v1::{CheckResponse, Leftover};
use podwright_cni::{Networks, Stray};
use podwright_podsandbox::Engine;

use super::known;
use crate::ports::whole_text;

/// Listed first, then compared with what is known; after the other leftovers, as links go with their namespaces.
pub(crate) async fn look(networks: &Networks, engine: &Engine, repair: bool) -> CheckResponse {
    let mut answer = CheckResponse::default();
    let strays = match networks.strays().await {
        Ok(strays) => strays,
        Err(error) => {
            answer.not_checked.push(format!("leases, links and nftables: {}", whole_text(&error)));
            return answer;
        }
    };
    let known = known(engine);
    for stray in strays {
        if matches!(&stray, Stray::Lease { sandbox } if known.contains(sandbox.as_str())) {
            continue;
        }
        let mut told = Leftover {
            kind: stray.kind().into(),
            name: stray.to_string(),
            advice: advice(&stray).into(),
            ..Leftover::default()
        };
        if repair {
            let removed = networks.remove_stray(&stray).await;
            told.failure = removed.err().map(|error| whole_text(&error)).unwrap_or_default();
            told.removed = told.failure.is_empty();
            tracing::warn!(kind = told.kind, name = told.name, failure = told.failure, "a leftover is removed");
        }
        answer.leftovers.push(told);
    }
    answer
}

fn advice(stray: &Stray) -> &'static str {
    match stray {
        Stray::Lease { .. } | Stray::Rules { .. } => {
            "`podwright check --repair` removes it, and so does a restart of podwrightd"
        }
        Stray::Link { .. } => "`podwright check --repair` removes it, or `ip link delete`",
    }
}
