//! Somebody at the portal who does everything by clicking, and looks at each page that comes.

use crate::{Browser, Scheme, audit};
use anyhow::{Context, Result, ensure};
use rig::wait_for;
use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

/// Widths of a desk and of a phone.
const WIDE: u32 = 1280;
const NARROW: u32 = 360;
/// Longer than any job takes.
const LONGEST: Duration = Duration::from_secs(180);

/// A user with a browser.
pub struct Person {
    /// What is clicked in.
    pub browser: Browser,
    album: Option<PathBuf>,
    looks: Cell<u32>,
}

impl Person {
    /// Logs in. With a folder for pictures each page that is looked at must be readable, and its picture is kept there;
    /// without one, looking is left out.
    pub fn log_in(url: &str, name: &str, password: &str, album: Option<PathBuf>) -> Result<Person> {
        let person = Person { browser: Browser::start()?, album, looks: Cell::new(0) };
        person.browser.prefer(Scheme::Light)?;
        person.browser.be_wide(WIDE, false)?;
        person.browser.open(url)?;
        person.look("login")?;
        person.browser.log_in(url, name, password)?;
        Ok(person)
    }

    /// Looks at the page that is shown, on a phone and on a desk.
    pub fn look(&self, name: &str) -> Result<()> {
        let Some(album) = &self.album else { return Ok(()) };
        self.looks.set(self.looks.get() + 1);
        for (form, width) in [("phone", NARROW), ("light", WIDE)] {
            self.browser.be_wide(width, width == NARROW)?;
            audit::look(&self.browser, &format!("{name} ({form}, {})", self.browser.url()?))?;
            let file = format!("journey-{:02}-{name}-{form}.png", self.looks.get());
            self.browser.screenshot(&album.join(file))?;
        }
        Ok(())
    }

    /// Clicks on this, which leads to a page whose address has `part` in it.
    pub fn go(&self, text: &str, part: &str) -> Result<()> {
        self.browser.click_on(text)?;
        self.browser.wait_for_page(part).with_context(|| format!("after a click on {text:?}"))
    }

    /// Clicks on this, which orders a job, and follows that to its end without loading its page again. Gives what came of
    /// it; a job that does not succeed is an error with what its page shows.
    pub fn order(&self, text: &str, name: &str) -> Result<String> {
        self.go(text, "/jobs/")?;
        self.look(&format!("{name}-ordered"))?;
        let state = self.wait_for_one_of("#state", &["succeeded", "failed", "cancelled"])?;
        ensure!(state == "succeeded", "{text}:\n{}", self.browser.text()?);
        self.look(&format!("{name}-done"))?;
        self.shown("main .notice.ok")
    }

    /// Goes from the page of a job to that of its item.
    pub fn back_to_item(&self) -> Result<()> {
        self.browser.click("#state a[href^='/items/']")?;
        self.browser.wait_for_page("/items/")
    }

    /// Waits until the head of the page of an item says that it is in this state.
    pub fn wait_for_state(&self, state: &str) -> Result<()> {
        self.wait_for_one_of(".head .line", &[state]).map(drop)
    }

    /// Waits until what is found by this shows one of these words, and gives that.
    fn wait_for_one_of<'a>(&self, css: &str, words: &[&'a str]) -> Result<&'a str> {
        let waited = wait_for(&words.join(" or "), LONGEST, || {
            let shown = self.shown(css)?;
            Ok(words.iter().copied().find(|word| shown.contains(word)))
        });
        waited.with_context(|| self.at())
    }

    /// Loads the page again, as who waits for something does, until it has what is found by this.
    pub fn reload_until(&self, css: &str) -> Result<()> {
        let url = self.browser.url()?;
        let waited = wait_for(css, LONGEST, || {
            self.browser.open(&url)?;
            Ok((self.browser.count(css)? > 0).then_some(()))
        });
        waited.with_context(|| self.at())
    }

    /// The text of what is found by this; nothing when there is no such thing.
    pub fn shown(&self, css: &str) -> Result<String> {
        let script = "return document.querySelector(arguments[0])?.innerText ?? ''";
        let text = self.browser.execute(script, css.into())?;
        Ok(text.as_str().unwrap_or_default().trim().to_owned())
    }

    fn at(&self) -> String {
        let (url, text) = (self.browser.url(), self.browser.text());
        format!("the page {} shows:\n{}", url.unwrap_or_default(), text.unwrap_or_default())
    }
}
