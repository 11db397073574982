//! The front end as a whole: what its services share, and how they are put on a server.

use std::sync::Arc;

use podwright_cri_api::v1::image_service_server::ImageServiceServer;
use podwright_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use podwright_imageservice::ImageStore;
use podwright_podsandbox::Engine;
use tokio::sync::watch;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use crate::deadline::Deadlines;
use crate::host::Host;
use crate::streaming::Streaming;

/// Largest message that is taken or sent, as other runtimes have it.
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// The CRI front end. Clones share everything.
#[derive(Clone)]
pub struct Cri {
    pub(crate) engine: Engine,
    pub(crate) images: ImageStore,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) streaming: Streaming,
    /// True when calls without an end are to end.
    pub(crate) ending: Arc<watch::Sender<bool>>,
}

impl Cri {
    /// Builds the front end over an engine that has recovered, a store that is open, and a streaming server that is served.
    #[must_use]
    pub fn new(engine: Engine, images: ImageStore, host: Arc<dyn Host>, streaming: Streaming) -> Self {
        Self { engine, images, host, streaming, ending: Arc::new(watch::Sender::new(false)) }
    }

    /// Ends the calls that have no end of their own, so that a server which waits for its calls comes to its end.
    pub fn end_streams(&self) {
        self.ending.send_replace(true);
    }

    /// Puts both services on a server, behind their callers' deadlines.
    #[must_use]
    pub fn on(&self, server: tonic::transport::Server) -> Router<Stack<Deadlines, Identity>> {
        let runtime = RuntimeServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let images = ImageServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        server.layer(Deadlines).add_service(runtime).add_service(images)
    }
}
