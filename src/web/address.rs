//! The page's own address: its parameters and its fragment.

use std::str::FromStr;

/// The address of the page that a game runs in: read settings from its parameters, and secrets from
/// its fragment.
///
/// ```no_run
/// use bevy_rollback_lab::config::LabConfig;
/// use bevy_rollback_lab::web::PageAddress;
///
/// # fn lab() -> Result<LabConfig, String> {
/// // https://example.org/?room=r7&players=3#token=…
/// let address = PageAddress::read()?;
/// let room = address.parameter("room").unwrap_or("study");
/// let players = address.parsed("players")?.unwrap_or(2);
/// let token = address.secret("token");
/// # drop(token);
/// Ok(LabConfig::new(address.server(), room).players(players))
/// # }
/// ```
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
    /// There is no window, as in a worker.
    pub fn read() -> Result<Self, String> {
        let window = web_sys::window().ok_or("this is not a page: it has no window")?;
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

    /// A parameter of the query, decoded. `None` if it is absent or empty.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// A value of the fragment, which browsers do not send to servers. `None` if it is absent or
    /// empty.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<&str> {
        find(&self.fragment, name)
    }

    /// A parameter read as `T`; `None` if it is absent or empty.
    ///
    /// # Errors
    /// Its value is not a `T`. The error names the parameter and the value.
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

    /// A switch: true if the parameter is there, unless its value is `0` or `false`.
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

/// Decodes percent signs and `+`; a text that is not encoded correctly stays as it is.
fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    js_sys::decode_uri_component(&spaced).map_or(spaced, String::from)
}
