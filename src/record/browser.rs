//! What a file says of a browser: its family and major version, and nothing else of the user agent,
//! which could identify a participant.

#![cfg_attr(
    not(any(test, target_arch = "wasm32")),
    expect(dead_code, reason = "only a page has a browser; the tests are native")
)]

/// Families by the token that names their version. An earlier one of several decides: every
/// browser claims to be the ones that came before it.
const FAMILIES: [(&str, &str); 7] = [
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("HeadlessChrome/", "Chromium"),
    ("Chrome/", "Chromium"),
    ("Version/", "Safari"),
];

/// `Chromium 156` of a user agent; `None` for a family that is not known.
pub(super) fn family(user_agent: &str) -> Option<String> {
    let (version, family) = FAMILIES.iter().find_map(|(token, family)| {
        let (_, rest) = user_agent.split_once(token)?;
        Some((rest, family))
    })?;
    let major: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{family} {major}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_named_by_family_and_major_version_alone() {
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                      HeadlessChrome/156.0.8078.79 Safari/537.36";
        assert_eq!(family(chrome).as_deref(), Some("Chromium 156"));
        let edge = "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.1";
        assert_eq!(family(edge).as_deref(), Some("Edge 140"));
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
        assert_eq!(family(firefox).as_deref(), Some("Firefox 128"));
        let safari = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15";
        assert_eq!(family(safari).as_deref(), Some("Safari 17"));
        assert_eq!(family("curl/8.0"), None);
    }
}
