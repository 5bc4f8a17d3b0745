//! Notices into the log, and a bar on a terminal while a sync runs.

use super::control::Control;
use super::status::{self, REFRESH, StatusReport};
use crate::Notice;
use anyhow::{Result, bail};
use change_stream::RefusalCode;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Logs notices and shows progress for ever.
pub(crate) async fn watch(mut notices: mpsc::UnboundedReceiver<Notice>, control: Arc<Control>) {
    let mut bar = Bar::default();
    let mut ticks = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(notice) => bar.log(&notice),
                None => return,
            },
            _ = ticks.tick() => bar.refresh(&control).await,
        }
    }
}

/// The same until the sync of a pass has ended. A refusal ends it: nobody would be told otherwise.
pub(crate) async fn until_pass_ends(
    notices: &mut mpsc::UnboundedReceiver<Notice>,
    control: &Control,
) -> Result<()> {
    let mut bar = Bar::default();
    let mut ticks = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            notice = notices.recv() => match notice {
                Some(notice) => {
                    bar.log(&notice);
                    match notice {
                        Notice::SyncFinished { .. } => return Ok(()),
                        Notice::Refused { code, message, .. } if code != RefusalCode::ResyncRequired => {
                            bail!("the master target refuses ({code:?}): {message}");
                        }
                        Notice::Failed { what } => bail!(what),
                        _ => {}
                    }
                }
                None => bail!("the sender ended"),
            },
            _ = ticks.tick() => bar.refresh(control).await,
        }
    }
}

/// A bar on a terminal; nothing elsewhere.
#[derive(Default)]
struct Bar(Option<ProgressBar>);

impl Bar {
    fn log(&mut self, notice: &Notice) {
        if let (Some(bar), Notice::SyncFinished { .. } | Notice::Lost { .. }) = (&self.0, notice) {
            bar.finish_and_clear();
            self.0 = None;
        }
        match &self.0 {
            Some(bar) => bar.suspend(|| status::log(notice)),
            None => status::log(notice),
        }
    }

    async fn refresh(&mut self, control: &Control) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        if let Ok(StatusReport { sync: Some(sync), state, .. }) = control.report().await {
            let bar = self.0.get_or_insert_with(|| {
                let bar = ProgressBar::new(sync.total_bytes);
                if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {msg}") {
                    bar.set_style(style);
                }
                bar
            });
            bar.set_prefix(state);
            bar.set_position(sync.done_bytes);
            bar.set_message(sync.to_string());
        }
    }
}
