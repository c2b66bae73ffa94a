//! Owns reading the page's own address: its parameters and its fragment. Never changes it.

use std::str::FromStr;

/// The address of the page that a game runs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageAddress {
    /// Host and port that the page came from. Empty for a page from a file.
    pub host: String,
    /// Whether it came over TLS.
    pub secure: bool,
    query: Vec<(String, String)>,
    fragment: Vec<(String, String)>,
}

impl PageAddress {
    /// The address of this page.
    ///
    /// # Errors
    /// When there is no window to ask, as in a worker.
    pub fn read() -> Result<Self, String> {
        let window = web_sys::window().ok_or("this is no page: it has no window")?;
        let location = window.location();
        let part = |part: Result<String, _>| part.map_err(|error| format!("{error:?}"));
        Ok(Self {
            host: part(location.host())?,
            secure: part(location.protocol())? == "https:",
            query: pairs(&part(location.search())?),
            fragment: pairs(&part(location.hash())?),
        })
    }

    /// The server beside the page: where a page is served by `rollback-lab serve --page`, signaling
    /// and relay are at the same place.
    #[must_use]
    pub fn server(&self) -> String {
        let scheme = if self.secure { "wss" } else { "ws" };
        format!("{scheme}://{}", self.host)
    }

    /// A parameter of the query, decoded. An empty one counts as absent.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A value of the fragment, which browsers never send to a server.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&str> {
        find(&self.fragment, name)
    }

    /// A parameter read as `T`.
    ///
    /// # Errors
    /// When it is there and cannot be read, in words that name it.
    pub fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let Some(text) = self.parameter(name) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(format!(
                "the parameter {name} of this page cannot be {text:?}"
            )),
        }
    }

    /// A parameter that is on when it is there, unless it says `0` or `false`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        let value = self.query.iter().find(|(key, _)| key == name);
        value.is_some_and(|(_, value)| !matches!(value.as_str(), "0" | "false"))
    }
}

fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = pairs.iter().find(|(key, _)| key == name);
    found
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

fn pairs(text: &str) -> Vec<(String, String)> {
    text.trim_start_matches(['?', '#'])
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
        .collect()
}

/// What is not encoded as it should be stays as it is.
fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    js_sys::decode_uri_component(&spaced).map_or(spaced, String::from)
}
