//! The streams of a session: this end of the pipes to a process.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;

use super::EndOfExec;
use crate::error::EngineError;

/// How long output is waited for after the command ended; children that it left may hold the pipe open for ever.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// Input of a process. Dropping it or shutting it down is its end.
#[derive(Debug)]
pub struct Input {
    pipe: Option<pipe::Sender>,
}

/// Output of a process: of a pipe, so it waits there until it is read.
pub struct Output {
    pipe: pipe::Receiver,
    /// After this the output ends as soon as nothing is left to read.
    cut: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    over: bool,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("over", &self.over).finish_non_exhaustive()
    }
}

/// A pipe to be written to by a client, and the other end for the process.
pub(crate) fn pair_to_write() -> Result<(Input, OwnedFd), EngineError> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| no_pipe(&e.into()))?;
    let pipe = pipe::Sender::from_owned_fd(write).map_err(|e| no_pipe(&e))?;
    Ok((Input { pipe: Some(pipe) }, read))
}

/// A pipe to be read by a client, and the other end for the process. With `end`, a pipe that others hold open ends a moment
/// after the command.
pub(crate) fn pair_to_read(end: Option<EndOfExec>) -> Result<(Output, OwnedFd), EngineError> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| no_pipe(&e.into()))?;
    let pipe = pipe::Receiver::from_owned_fd(read).map_err(|e| no_pipe(&e))?;
    let cut = end.map(|mut end| {
        let cut: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
            // A task that ended without a word has no more to say either.
            drop(end.wait_for(Option::is_some).await);
            tokio::time::sleep(DRAIN_LIMIT).await;
        });
        cut
    });
    Ok((Output { pipe, cut, over: false }, write))
}

fn no_pipe(cause: &io::Error) -> EngineError {
    EngineError::Exhausted(format!("make a pipe for a stream: {cause}; too many files are open"))
}

impl Input {
    /// Writes what the process takes at once.
    ///
    /// # Errors
    /// `WouldBlock` if that is nothing; `BrokenPipe` if it takes no more.
    pub fn try_write(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.pipe.as_ref().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), |pipe| pipe.try_write_vectored(pieces))
    }

    /// Returns when the process may take more. Cancel safe.
    ///
    /// # Errors
    /// `BrokenPipe` if it was shut down.
    pub async fn writable(&self) -> io::Result<()> {
        match &self.pipe {
            Some(pipe) => pipe.writable().await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.pipe {
            Some(pipe) => Pin::new(pipe).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pipe = None;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over {
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.pipe).poll_read(context, buffer);
        if read.is_ready() {
            return read;
        }
        let Some(cut) = &mut self.cut else { return Poll::Pending };
        ready!(cut.as_mut().poll(context));
        // Readiness may have come between the read and the end of the wait.
        self.cut = None;
        let last = Pin::new(&mut self.pipe).poll_read(context, buffer);
        self.over = last.is_pending();
        match last {
            Poll::Ready(result) => {
                self.cut = Some(Box::pin(std::future::ready(())));
                Poll::Ready(result)
            }
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}
