//! What keeps people from using the page that a browser shows.

use crate::Browser;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A tabulator, as WebDriver names it.
const TAB: &str = "\u{E004}";

/// Refuses a page that scrolls sideways, has an input without a label, or text that does not stand out.
pub fn look(browser: &Browser, page: &str) -> Result<()> {
    let problems = browser.execute(include_str!("audit.js"), Value::Null)?;
    let problems: Vec<String> = serde_json::from_value(problems)?;
    anyhow::ensure!(problems.is_empty(), "{page}:\n  {}", problems.join("\n  "));
    Ok(())
}

/// Everything that can be used, in the order of the page; of radio buttons that belong together, the chosen one.
const USABLE: &str = "
    const usable = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary, [tabindex=\"0\"]')]
      .filter((element) => element.checkVisibility({ visibilityProperty: true }) && !element.matches('[type=radio]:not(:checked)'));
    usable.forEach((element, number) => element.dataset.number = number);
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute('tabindex');
    return usable.length";

/// What has the focus: its number, and whether that can be seen.
const FOCUSED: &str = "
    const element = document.activeElement;
    const seen = ['', '::after'].some((part) => {
      const style = getComputedStyle(element, part);
      return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
    });
    return { number: Number(element.dataset.number ?? -1), seen, html: element.outerHTML.slice(0, 120) }";

/// Goes through a page by the keyboard, and refuses one where something is not reached, comes out of its order, or has
/// the focus without showing it.
pub fn tab_through(browser: &Browser, page: &str) -> Result<()> {
    let usable = browser.execute(USABLE, json!(null))?.as_u64().context("no number")?;
    for expected in 0..usable {
        browser.press(TAB)?;
        let focused = browser.execute(FOCUSED, json!(null))?;
        anyhow::ensure!(
            focused["number"].as_u64() == Some(expected) && focused["seen"] == true,
            "{page}: the focus should show on number {expected} of {usable}, and is on {focused}"
        );
    }
    Ok(())
}
