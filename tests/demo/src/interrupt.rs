//! Waiting for the one who looks to have seen enough.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Ctrl-C or SIGTERM, which no longer end the demo by themselves.
pub(crate) struct Interrupt(SigSet);

impl Interrupt {
    /// From now on they are waited for.
    pub(crate) fn expect() -> Result<Interrupt> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().context("cannot wait for Ctrl-C")?;
        Ok(Interrupt(signals))
    }

    /// Returns when one of them has come.
    pub(crate) fn wait(&self) -> Result<()> {
        self.0.wait().context("cannot wait for Ctrl-C")?;
        Ok(())
    }
}
