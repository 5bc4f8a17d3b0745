//! Chromium without a screen, driven by chromedriver over WebDriver: JSON over HTTP.

use anyhow::{Context, Result, bail, ensure};
use rig::{Process, free_port, wait_for};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a page may take to show what a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any command of WebDriver takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// What WebDriver calls a reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// What can be clicked on and shows a text.
const CLICKABLE: &str = "
    const texts = [...document.querySelectorAll('a[href], button, summary, label, option')];
    const shown = (element) => element.localName === 'option' || element.checkVisibility({ visibilityProperty: true });
    return texts.find((element) => shown(element) && element.textContent.trim() === arguments[0]) ?? {}";
/// The largest size of a window.
const DESK: (u32, u32) = (1280, 900);

/// Which colours a user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// A browser with one window.
pub struct Browser {
    agent: ureq::Agent,
    session: String,
    _driver: Process,
    _profile: TempDir,
}

impl Browser {
    /// Starts one. It takes the certificate of a server that it does not know, as a person does who was told so.
    pub fn start() -> Result<Browser> {
        let profile = tempfile::Builder::new().prefix("portal-browser").tempdir()?;
        let port = free_port()?;
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}"));
        let mut driver = Process::start(command, &profile.path().join("chromedriver.log"))?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER_LIMIT))
            .http_status_as_error(false)
            .build();
        let agent: ureq::Agent = config.into();
        let root = format!("http://127.0.0.1:{port}");
        wait_for("chromedriver to answer", ANSWER_LIMIT, || {
            driver.check_running()?;
            Ok(agent.get(format!("{root}/status")).call().ok())
        })?;
        let session = format!("{root}/session");
        let mut browser = Browser { agent, session, _driver: driver, _profile: profile };
        let folder = browser._profile.path().join("profile");
        let options = json!({ "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--lang=en",
            format!("--window-size={},{}", DESK.0, DESK.1), format!("--user-data-dir={}", folder.display()),
        ]});
        let timeouts = json!({ "implicit": PATIENCE.as_millis() as u64 });
        let wanted = json!({
            "acceptInsecureCerts": true, "goog:chromeOptions": options, "timeouts": timeouts,
        });
        let begun = browser.post("", &json!({ "capabilities": { "alwaysMatch": wanted } }))?;
        let id = begun["sessionId"].as_str().context("WebDriver began no session")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(browser)
    }

    fn answer(
        &self,
        answer: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value> {
        let mut answer = answer.context("chromedriver does not answer")?;
        let body: Value = answer.body_mut().with_config().limit(64 << 20).read_json()?;
        let value = body["value"].clone();
        match value["error"].as_str() {
            Some(error) => bail!("{error}: {}", value["message"].as_str().unwrap_or_default()),
            None => Ok(value),
        }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.answer(self.agent.post(format!("{}{path}", self.session)).send_json(body))
    }

    /// Asks the browser itself, over its own protocol.
    fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Opens an address.
    pub fn open(&self, url: &str) -> Result<()> {
        self.post("/url", &json!({ "url": url })).with_context(|| format!("cannot open {url}")).map(drop)
    }

    /// The address of the page that is shown.
    pub fn url(&self) -> Result<String> {
        let url = self.answer(self.agent.get(format!("{}/url", self.session)).call())?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a script in the page; `arguments[0]` is what is handed in.
    pub fn execute(&self, script: &str, argument: Value) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": [argument] }))
    }

    /// The text of the page that is shown.
    pub fn text(&self) -> Result<String> {
        let text = self.execute("return document.body.innerText", Value::Null)?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page shows this text; an error tells what it shows instead.
    pub fn wait_for_text(&self, wanted: &str) -> Result<()> {
        let mut last = String::new();
        let waited = wait_for(&format!("{wanted:?} on the page"), PATIENCE, || {
            last = self.text()?;
            if !last.contains(wanted) {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(last.contains(wanted).then_some(()))
        });
        waited.with_context(|| format!("the page {} shows:\n{last}", self.url().unwrap_or_default()))
    }

    /// Waits until a page is shown whose address has this in it.
    pub fn wait_for_page(&self, part: &str) -> Result<()> {
        let waited = wait_for(&format!("a page at {part}"), PATIENCE, || {
            let there = self.url()?.contains(part)
                && self.execute("return document.readyState", Value::Null)? == "complete";
            Ok(there.then_some(()))
        });
        waited.with_context(|| format!("the page is {}", self.url().unwrap_or_default()))
    }

    fn find(&self, css: &str) -> Result<String> {
        let found = self
            .post("/element", &json!({ "using": "css selector", "value": css }))
            .with_context(|| format!("nothing on {} is {css}", self.url().unwrap_or_default()))?;
        Ok(found[ELEMENT].as_str().context("WebDriver found no element")?.to_owned())
    }

    /// How many elements are found by this.
    pub fn count(&self, css: &str) -> Result<u64> {
        let count = self.execute("return document.querySelectorAll(arguments[0]).length", json!(css))?;
        count.as_u64().context("no number")
    }

    /// Clicks on the link, button, choice or option that shows exactly this text, as soon as there is one.
    pub fn click_on(&self, text: &str) -> Result<()> {
        let waited = wait_for(&format!("{text:?} to click on"), PATIENCE, || {
            let found = self.execute(CLICKABLE, json!(text))?;
            let Some(element) = found[ELEMENT].as_str() else { return Ok(None) };
            match self.post(&format!("/element/{element}/click"), &json!({})) {
                Ok(_) => Ok(Some(())),
                // A page that updates itself has replaced it meanwhile.
                Err(error) if error.to_string().starts_with("stale element reference") => Ok(None),
                Err(error) => Err(error.context(format!("cannot click on {text:?}"))),
            }
        });
        waited.with_context(|| {
            format!("the page {} shows:\n{}", self.url().unwrap_or_default(), self.text().unwrap_or_default())
        })
    }

    /// Clicks on what is found by this, as soon as it is there.
    pub fn click(&self, css: &str) -> Result<()> {
        let element = self.find(css)?;
        self.post(&format!("/element/{element}/click"), &json!({})).with_context(|| css.to_owned()).map(drop)
    }

    /// Types into what is found by this.
    pub fn type_into(&self, css: &str, text: &str) -> Result<()> {
        let element = self.find(css)?;
        self.post(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
    }

    /// Presses a key, as WebDriver names it.
    pub fn press(&self, key: &str) -> Result<()> {
        let actions = json!([{ "type": "key", "id": "keys", "actions": [
            { "type": "keyDown", "value": key }, { "type": "keyUp", "value": key },
        ]}]);
        self.post("/actions", &json!({ "actions": actions })).map(drop)
    }

    /// Logs in on the portal at this address.
    pub fn log_in(&self, portal: &str, name: &str, password: &str) -> Result<()> {
        self.open(&format!("{portal}login"))?;
        self.type_into("#name", name)?;
        self.type_into("#password", password)?;
        self.click("main form button")?;
        // A click does not always wait for the page that comes of it.
        let come = wait_for("the page after the log-in", PATIENCE, || {
            let refused = self.count("[role=alert]")? > 0;
            Ok((refused || self.url()? == portal).then_some(!refused))
        })?;
        ensure!(come, "{name} was not logged in:\n{}", self.text()?);
        Ok(())
    }

    /// Prefers these colours from now on.
    pub fn prefer(&self, scheme: Scheme) -> Result<()> {
        let value = if scheme == Scheme::Dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": value }, { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features })).map(drop)
    }

    /// Has a screen of this width from now on.
    pub fn be_wide(&self, width: u32, phone: bool) -> Result<()> {
        let size = json!({ "width": width, "height": DESK.1, "deviceScaleFactor": 1, "mobile": phone });
        self.devtools("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// Whether pages may run scripts.
    pub fn allow_scripts(&self, allowed: bool) -> Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed })).map(drop)
    }

    /// Writes a picture of the whole page into a file.
    pub fn screenshot(&self, file: &Path) -> Result<()> {
        self.execute("document.activeElement.blur(); window.scrollTo(0, 0)", Value::Null)?;
        let size = self.devtools("Page.getLayoutMetrics", json!({}))?["cssContentSize"].clone();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        let wanted = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let picture = self.devtools("Page.captureScreenshot", wanted)?;
        let picture = base64(picture["data"].as_str().context("no picture")?).context("no picture")?;
        std::fs::create_dir_all(file.parent().context("a file is in a folder")?)?;
        Ok(std::fs::write(file, picture)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium is chromedriver's child and would outlive it; there is nobody to tell when it does not end.
        let _ = self.agent.delete(&self.session).call();
    }
}

/// Reads base64 (RFC 4648) without line breaks.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let decode = |group: &[u8]| {
        let bits =
            group.iter().fold(0u32, |bits, digit| bits << 6 | u32::from(*digit)) << (6 * (4 - group.len()));
        let bytes = bits.to_be_bytes();
        bytes[1..group.len()].to_vec()
    };
    Some(digits.chunks(4).flat_map(decode).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_the_standard_says() {
        let examples = [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")];
        for (text, bytes) in examples {
            assert_eq!(base64(text).unwrap(), bytes.as_bytes());
        }
        assert_eq!(base64("a?"), None);
    }
}
