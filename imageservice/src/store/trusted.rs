//! The signature policy where it counts: in a pull, before anything of the image is written, and when a container is made of an image
//! that may have been pulled for somebody else.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use podwright_imagetrust::{Places, Wanted};
use podwright_types::{Digest, ImageReference};

use super::pull::Pull;
use super::{ImageStore, Inner, blocking};
use crate::error::{ErrorKind, ImageError, Result};
use crate::registry::Session;
use crate::trust::{Demand, Gathering, Trust, too_late};

/// Places from which signatures are fetched, when a container is made of an image with many names.
const MOST_FETCHED: usize = 4;
/// What to do where only the index is signed.
const INDEX_HINT: &str = "the manifest of this platform has to be signed, not only the index \
    (cosign sign --recursive, skopeo copy --all --sign-by)";

/// One way to ask about a present image.
struct Question {
    demand: Arc<Demand>,
    manifest: Digest,
}

/// What tells the signatures that are fetched for a question from others: the tag does not.
#[derive(PartialEq, Eq)]
struct Source {
    repository: String,
    manifest: Digest,
    wanted: Wanted,
    places: Places,
}

/// What was fetched for questions so far, and what has not to be tried again.
#[derive(Default)]
struct Fetched {
    sources: Vec<(Source, Option<Gathering>)>,
    silent: HashSet<String>,
}

impl ImageStore {
    /// Whether a tenant may use the present image with this id, asked for as `asked`: one of its names. With anything else (an id, a part
    /// of one, a name of another image, nothing) any of the image's names may be the one that is allowed. Costs nothing without a policy, and little for what was decided before.
    ///
    /// # Errors
    /// `Untrusted`, with what is missing; kinds of the registry where signatures have to be fetched and can not be.
    pub async fn allow(&self, image_id: &str, asked: &str, tenant: &str) -> Result<()> {
        let Some(trust) = self.inner.trust.clone() else { return Ok(()) };
        let inner = Arc::clone(&self.inner);
        let (image_id, asked, tenant) = (image_id.to_owned(), asked.to_owned(), tenant.to_owned());
        let task = tokio::spawn(async move { inner.allow(trust, &image_id, &asked, tenant).await });
        super::join("check signatures of image", task).await
    }
}

impl Inner {
    /// Within the time that all of it has.
    async fn allow(self: &Arc<Self>, trust: Arc<Trust>, image_id: &str, asked: &str, tenant: String) -> Result<()> {
        let patience = &self.config.patience;
        let work = self.allow_at_last(trust, image_id, asked, tenant);
        tokio::time::timeout(patience.signatures, work).await.unwrap_or_else(|_| Err(too_late(image_id, patience)))
    }

    async fn allow_at_last(
        self: &Arc<Self>,
        trust: Arc<Trust>,
        image_id: &str,
        asked: &str,
        tenant: String,
    ) -> Result<()> {
        let (names, manifests) = self.names_of(image_id, asked)?;
        let mut questions = Vec::new();
        let mut refused = None;
        for name in names {
            let (trust, tenant) = (Arc::clone(&trust), tenant.clone());
            match blocking("read signature policy", move || trust.demand(&tenant, &name)).await {
                Ok(None) => return Ok(()),
                Ok(Some(demand)) => {
                    let demand = Arc::new(demand);
                    let question =
                        |manifest: &Digest| Question { demand: Arc::clone(&demand), manifest: manifest.clone() };
                    questions.extend(manifests.iter().map(question));
                }
                Err(error) => refused = Some(error),
            }
        }
        if questions.iter().any(|question| trust.is_decided(&question.demand, &question.manifest)) {
            return Ok(());
        }
        for question in &questions {
            match self.judge_kept(&trust, question).await {
                Ok(()) => return Ok(()),
                Err(error) => refused = Some(error),
            }
        }
        let mut fetched = Fetched::default();
        for question in &questions {
            match self.judge_fetched(&trust, question, &mut fetched).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(error)) => refused = Some(error),
                None => {}
            }
        }
        Err(refused.unwrap_or_else(|| {
            ImageError::new(ErrorKind::NotFound, "find image", image_id, "it is not on this host; pull it first")
        }))
    }

    /// The names to ask a policy about, and the manifests of an image.
    fn names_of(&self, image_id: &str, asked: &str) -> Result<(Vec<ImageReference>, BTreeSet<Digest>)> {
        let not_found =
            || ImageError::new(ErrorKind::NotFound, "find image", image_id, "it is not on this host; pull it first");
        let id: Digest = image_id.parse().map_err(|_| not_found())?;
        let catalog = self.catalog();
        let own: Vec<_> = catalog.listings.iter().filter(|listing| listing.image_id == id).collect();
        let manifests = own.iter().map(|listing| listing.entry.manifest.clone()).collect();
        let names: Vec<ImageReference> =
            own.iter().filter_map(|listing| listing.entry.name.as_deref()?.parse().ok()).collect();
        // Whoever asks says it, so it counts only if it is a name of this very image. A part of an id can be read as a name too.
        if let Some(name) = asked.parse().ok().filter(|asked| names.iter().any(|own| is_name_of(asked, own))) {
            return Ok((vec![name], manifests));
        }
        Ok((names, manifests))
    }

    async fn judge_kept(self: &Arc<Self>, trust: &Arc<Trust>, question: &Question) -> Result<()> {
        let signatures = {
            let (inner, manifest) = (Arc::clone(self), question.manifest.clone());
            blocking("read signatures", move || Ok(inner.kept.of(&manifest))).await?
        };
        self.judge(trust, question, Gathering { signatures, hint: String::new() }).await
    }

    /// Judges by what is fetched, once from each place and without credentials but those of docker's configuration. Nothing, where
    /// that was tried in vain, or enough was.
    async fn judge_fetched(
        self: &Arc<Self>,
        trust: &Arc<Trust>,
        question: &Question,
        fetched: &mut Fetched,
    ) -> Option<Result<()>> {
        let demand = &question.demand;
        let places = match self.places(trust, demand).await {
            Ok(places) => places,
            Err(error) => return Some(Err(error)),
        };
        let (repository, manifest) = (demand.asked().repository(), question.manifest.clone());
        let source = Source { repository, manifest, wanted: demand.wanted, places };
        if let Some((_, known)) = fetched.sources.iter().find(|(known, _)| *known == source) {
            return Some(self.judge(trust, question, known.clone()?).await);
        }
        if fetched.sources.len() >= MOST_FETCHED || fetched.silent.contains(demand.asked().domain()) {
            return None;
        }
        let gathered = self.fetch(trust, question, source.places.clone()).await;
        fetched.sources.push((source, gathered.as_ref().ok().cloned()));
        match gathered {
            Ok(gathered) => Some(self.judge(trust, question, gathered).await),
            Err(error) => {
                if error.kind() == ErrorKind::RegistryUnavailable {
                    fetched.silent.insert(demand.asked().domain().to_owned());
                }
                Some(Err(without_credentials(error, demand)))
            }
        }
    }

    async fn fetch(self: &Arc<Self>, trust: &Arc<Trust>, question: &Question, places: Places) -> Result<Gathering> {
        let (inner, asked) = (Arc::clone(self), question.demand.asked().clone());
        let session =
            blocking("prepare to fetch signatures", move || inner.registry.session(&asked, None, &inner.config));
        let (session, patience) = (session.await?, &self.config.patience);
        question.demand.gather(&session, patience, places, trust.registries_dir(), &question.manifest).await
    }

    async fn places(self: &Arc<Self>, trust: &Arc<Trust>, demand: &Arc<Demand>) -> Result<Places> {
        let (trust, demand) = (Arc::clone(trust), Arc::clone(demand));
        blocking("read registries.d", move || demand.places(trust.registries_dir())).await
    }

    async fn gather(
        self: &Arc<Self>,
        trust: &Arc<Trust>,
        demand: &Arc<Demand>,
        session: &Session,
        manifest: &Digest,
    ) -> Result<Gathering> {
        let places = self.places(trust, demand).await?;
        demand.gather(session, &self.config.patience, places, trust.registries_dir(), manifest).await
    }

    /// Judges a present image.
    async fn judge(self: &Arc<Self>, trust: &Arc<Trust>, question: &Question, gathered: Gathering) -> Result<()> {
        let (inner, digest) = (Arc::clone(self), question.manifest.clone());
        let manifest = blocking("read manifest", move || inner.content.read_blob(&digest)).await?;
        self.decide(trust, &question.demand, &question.manifest, manifest, gathered).await
    }

    /// Judges; keeps the signatures of what is accepted.
    async fn decide(
        self: &Arc<Self>,
        trust: &Arc<Trust>,
        demand: &Arc<Demand>,
        digest: &Digest,
        manifest: Vec<u8>,
        gathered: Gathering,
    ) -> Result<()> {
        let (inner, trust, demand, digest) = (Arc::clone(self), Arc::clone(trust), Arc::clone(demand), digest.clone());
        blocking("check signatures", move || {
            let accepted = demand.judge(&manifest, &gathered.signatures, &gathered.hint)?;
            // The others may be those that the policy of another tenant, or a later one, wants.
            let found = || gathered.signatures.iter().enumerate();
            let decided = |position: usize| accepted.signatures.contains(&position);
            let deciding = found().filter(|(position, _)| decided(*position)).map(|(_, signature)| signature);
            let others = found().filter(|(position, _)| !decided(*position)).map(|(_, signature)| signature);
            // It was accepted; without the file it is fetched again after a restart.
            if let Err(error) = inner.kept.keep(&digest, deciding, others) {
                tracing::warn!(%error, "signatures of an image could not be kept");
            }
            trust.note(&demand, &digest, &accepted);
            Ok(())
        })
        .await
    }

    /// Removes kept signatures of manifests that are gone.
    pub(super) async fn sweep_signatures(self: &Arc<Self>) -> Result<()> {
        if self.trust.is_none() {
            return Ok(());
        }
        let inner = Arc::clone(self);
        blocking("remove signatures", move || {
            inner.kept.sweep(|| inner.catalog().needed_manifests());
            Ok(())
        })
        .await
    }
}

/// A registry that wants credentials may have the signatures; only a pull brings credentials.
fn without_credentials(error: ImageError, demand: &Demand) -> ImageError {
    if error.kind() != ErrorKind::Unauthorized {
        return error;
    }
    let cause = format!(
        "no signature that was kept at its pulls is accepted, and the registry shows others only to those with credentials: \
         pull it for this pod with its credentials (imagePullPolicy: Always); {error}"
    );
    ImageError::new(ErrorKind::Untrusted, "check signatures of", demand.asked(), cause)
}

/// Whether an image that is listed as `own` may be meant by `asked`: a tag may have moved to another image since.
fn is_name_of(asked: &ImageReference, own: &ImageReference) -> bool {
    own.canonical() == asked.canonical() || (asked.digest().is_none() && own.repository() == asked.repository())
}

impl Pull {
    /// What the policy demands of this image; nothing where there is none. Before anything is asked of a registry.
    pub(super) async fn demand(&self) -> Result<Option<Arc<Demand>>> {
        let (Some(trust), Some(tenant)) = (self.inner.trust.clone(), self.tenant.clone()) else { return Ok(None) };
        let reference = self.reference.clone();
        Ok(blocking("read signature policy", move || trust.demand(&tenant, &reference)).await?.map(Arc::new))
    }

    /// Fetches and judges the signatures of the very manifest whose layers are unpacked.
    pub(super) async fn check_signatures(
        &self,
        session: &Session,
        demand: &Arc<Demand>,
        manifest: &Digest,
        text: Vec<u8>,
        is_of_index: bool,
    ) -> Result<()> {
        let Some(trust) = &self.inner.trust else { return Ok(()) };
        let gathered = self.inner.gather(trust, demand, session, manifest).await?;
        let decided = self.inner.decide(trust, demand, manifest, text, gathered).await;
        decided.map_err(|error| if is_of_index { error.and(INDEX_HINT) } else { error })
    }
}
