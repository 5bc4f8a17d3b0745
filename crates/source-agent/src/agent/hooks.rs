//! Commands around a bookmark: quiesce before it, thaw after it, come what may.

use super::config::Hooks;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::watch;

/// Runs `act` between the hooks. The post hook runs even when the pre hook failed, took too long, or was ended
/// because `stop` turned true; then `act` is not run.
pub(crate) async fn between<T>(
    hooks: &Hooks,
    stop: watch::Receiver<bool>,
    act: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let before = run("pre", &hooks.pre, hooks.timeout(), Some(stop)).await;
    let result = match before {
        Ok(()) => act(),
        Err(error) => Err(error),
    };
    let after = run("post", &hooks.post, hooks.timeout(), None).await;
    match (result, after) {
        (Ok(value), Ok(())) => Ok(value),
        (Ok(_), Err(error)) => Err(error.context("the bookmark is set, but what was quiesced may still be")),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(thaw)) => {
            Err(error.context(format!("and {thaw:#}: what was quiesced may still be")))
        }
    }
}

/// Whether anything is brought to rest for a bookmark.
pub(crate) fn is_there(hooks: &Hooks) -> bool {
    !hooks.pre.is_empty()
}

/// Runs the pre hook alone; it is ended when `stop` turns true. [`after`] has to follow, however it ends.
pub(crate) async fn before(hooks: &Hooks, stop: watch::Receiver<bool>) -> Result<()> {
    run("pre", &hooks.pre, hooks.timeout(), Some(stop)).await
}

/// Runs the post hook alone.
pub(crate) async fn after(hooks: &Hooks) -> Result<()> {
    run("post", &hooks.post, hooks.timeout(), None).await
}

/// Thaws what a program that was killed may have left quiesced. It mostly has not, and then the hook may fail.
pub(crate) async fn thaw(hooks: &Hooks) {
    if let Err(error) = run("post", &hooks.post, hooks.timeout(), None).await {
        tracing::info!("nothing was left quiesced, most likely: {error:#}");
    }
}

async fn run(
    name: &str,
    command: &[String],
    limit: Duration,
    stop: Option<watch::Receiver<bool>>,
) -> Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    // A group of its own, so that a hook that takes too long is ended with all that it started.
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("the {name} hook {program} cannot be started"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let stopped = async {
        match stop {
            Some(mut stop) => {
                if stop.wait_for(|stop| *stop).await.is_err() {
                    std::future::pending().await
                }
            }
            None => std::future::pending().await,
        }
    };
    let why = tokio::select! {
        status = child.wait() => {
            let status = status.with_context(|| format!("the {name} hook {program} cannot be waited for"))?;
            if !status.success() {
                bail!("the {name} hook {program} failed: {status}");
            }
            return Ok(());
        }
        () = tokio::time::sleep(limit) => format!("took longer than {} s", limit.as_secs()),
        () = stopped => "was ended because the agent stops".to_owned(),
    };
    if let Some(group) = group {
        // It may have ended by itself meanwhile.
        let _ = killpg(group, Signal::SIGKILL);
    }
    let _ = child.wait().await;
    bail!("the {name} hook {program} {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(pre: &str, post: &str) -> Hooks {
        let shell = |script: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
        Hooks { pre: shell(pre), post: shell(post), timeout_seconds: 1, every_seconds: 0 }
    }

    async fn run_with(pre: &str, stop: bool) -> (Result<&'static str>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let thawed = folder.path().join("thawed");
        let hooks = hooks(pre, &format!("touch {}", thawed.display()));
        let (stopper, stopped) = watch::channel(false);
        if stop {
            stopper.send_replace(true);
        }
        let result = between(&hooks, stopped, || Ok("set")).await;
        (result, thawed.exists())
    }

    #[tokio::test]
    async fn the_post_hook_always_runs() {
        let (result, thawed) = run_with("true", false).await;
        assert_eq!((result.unwrap(), thawed), ("set", true));
        let (result, thawed) = run_with("exit 3", false).await;
        assert!(result.unwrap_err().to_string().contains("exit status: 3") && thawed);
        let (result, thawed) = run_with("sleep 60", false).await;
        assert!(result.unwrap_err().to_string().contains("took longer than 1 s") && thawed);
        let (result, thawed) = run_with("sleep 60", true).await;
        assert!(result.unwrap_err().to_string().contains("the agent stops") && thawed);
    }

    #[tokio::test]
    async fn a_thaw_that_fails_is_told() {
        let (_stopper, stopped) = watch::channel(false);
        let error = between(&hooks("true", "false"), stopped, || Ok(())).await.unwrap_err();
        assert!(format!("{error:#}").contains("may still be: the post hook"), "{error:#}");
    }
}
