//! The static files of a page, with their compressed variants. They are read once, at the start:
//! no path of a request reaches the file system.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

/// Most bytes of all files together: they are held in memory, and a page has tens of megabytes. A
/// larger folder was probably given by mistake.
const MAX_BYTES: u64 = 512 * 1024 * 1024;
/// Levels of folders below the page's own that are read.
const MAX_DEPTH: usize = 8;
/// The file of a path that ends in `/`.
const INDEX: &str = "index.html";

/// Encodings and file endings of the compressed variants that may lie beside a file, the smallest
/// first.
const ENCODINGS: [(&str, &str); 2] = [("br", "br"), ("gzip", "gz")];

/// Every file of a page, by its path below the folder.
#[derive(Debug, Default)]
pub(crate) struct Page {
    files: HashMap<String, PageFile>,
}

#[derive(Debug)]
struct PageFile {
    content_type: HeaderValue,
    tag: HeaderValue,
    plain: Bytes,
    /// By the names of [`ENCODINGS`], in their order.
    encoded: Vec<(&'static str, Bytes)>,
}

impl Page {
    /// Reads every file below `folder`. `name.br` and `name.gz` are variants of `name` where that
    /// exists. Links are not followed.
    ///
    /// # Errors
    /// When the folder or a file cannot be read, when there is no `index.html`, or when the files
    /// are larger than [`MAX_BYTES`] together.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let mut found = HashMap::new();
        let mut left = MAX_BYTES;
        gather(folder, "", 0, &mut left, &mut found)?;
        if !found.contains_key(INDEX) {
            return Err(io::Error::other(format!("there is no {INDEX} in it")));
        }
        let variants: Vec<(String, &str)> = found
            .keys()
            .flat_map(|name| ENCODINGS.map(|(encoding, ending)| (name, encoding, ending)))
            .map(|(name, encoding, ending)| (format!("{name}.{ending}"), encoding))
            .filter(|(variant, _)| found.contains_key(variant))
            .collect();
        let mut encoded: HashMap<(String, &str), Bytes> = HashMap::new();
        for (variant, encoding) in variants {
            if let (Some(bytes), Some((name, _))) =
                (found.remove(&variant), variant.rsplit_once('.'))
            {
                encoded.insert((name.to_owned(), encoding), bytes);
            }
        }
        let files = found
            .into_iter()
            .map(|(name, plain)| {
                let encoded = ENCODINGS
                    .iter()
                    .filter_map(|(encoding, _)| {
                        let bytes = encoded.remove(&(name.clone(), *encoding))?;
                        Some((*encoding, bytes))
                    })
                    .collect();
                let tag = format!("\"{:016x}\"", seahash::hash(&plain));
                let file = PageFile {
                    content_type: HeaderValue::from_static(content_type(&name)),
                    tag: HeaderValue::from_str(&tag).map_err(io::Error::other)?,
                    plain,
                    encoded,
                };
                Ok((name, file))
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { files })
    }

    /// Answers a request for `path`.
    pub(crate) fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Response {
        if method != Method::GET && method != Method::HEAD {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let name = path.trim_start_matches('/');
        let name = if name.is_empty() || name.ends_with('/') {
            format!("{name}{INDEX}")
        } else {
            name.to_owned()
        };
        let Some(file) = self.files.get(&name) else {
            return (StatusCode::NOT_FOUND, "there is no such file\n").into_response();
        };
        let mut answer = Response::new(Body::empty());
        let own = answer.headers_mut();
        own.insert(CONTENT_TYPE, file.content_type.clone());
        own.insert(ETAG, file.tag.clone());
        own.insert(VARY, HeaderValue::from_static("accept-encoding"));
        // A new build is used at once; unchanged files are answered with 304.
        own.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        own.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if headers.get(IF_NONE_MATCH) == Some(&file.tag) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        let accepted = headers.get(ACCEPT_ENCODING).and_then(|of| of.to_str().ok());
        let variant = file
            .encoded
            .iter()
            .find(|(encoding, _)| accepts(accepted.unwrap_or_default(), encoding));
        let body = match variant {
            Some((encoding, bytes)) => {
                own.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
                bytes
            }
            None => &file.plain,
        };
        own.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        if method == Method::GET {
            *answer.body_mut() = Body::from(body.clone());
        }
        answer
    }
}

fn gather(
    folder: &Path,
    prefix: &str,
    depth: usize,
    left: &mut u64,
    found: &mut HashMap<String, Bytes>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let kind = entry.file_type()?;
        if name.starts_with('.') {
            continue;
        }
        if kind.is_dir() && depth < MAX_DEPTH {
            let prefix = format!("{prefix}{name}/");
            gather(&entry.path(), &prefix, depth + 1, left, found)?;
        } else if kind.is_file() {
            *left = left.checked_sub(entry.metadata()?.len()).ok_or_else(|| {
                io::Error::other(format!(
                    "its files have more than {} MiB together",
                    MAX_BYTES / (1024 * 1024)
                ))
            })?;
            found.insert(format!("{prefix}{name}"), fs::read(entry.path())?.into());
        }
    }
    Ok(())
}

fn content_type(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    match ending {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        // Browsers compile while downloading only with this type.
        "wasm" => "application/wasm",
        "json" => "application/json",
        "css" => "text/css; charset=utf-8",
        "ts" | "txt" | "md" => "text/plain; charset=utf-8",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "ico" => "image/x-icon",
        _ => "application/octet-stream",
    }
}

/// Whether an `Accept-Encoding` header names `encoding` and does not refuse it (RFC 9110, section
/// 12.5.3). `*` is ignored: no browser sends it.
fn accepts(header: &str, encoding: &str) -> bool {
    header.split(',').any(|part| {
        let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
        let refused = parameters
            .trim()
            .strip_prefix("q=")
            .and_then(|weight| weight.trim().parse::<f32>().ok())
            .is_some_and(|weight| weight <= 0.0);
        name.trim().eq_ignore_ascii_case(encoding) && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoding_is_used_only_if_it_is_named_and_not_refused() {
        assert!(accepts("gzip, deflate, br", "br"));
        assert!(accepts("GZIP;q=0.5", "gzip"));
        assert!(!accepts("gzip, br;q=0", "br"));
        assert!(!accepts("gzip;q=0.0", "gzip"));
        assert!(!accepts("brotli", "br"));
        assert!(!accepts("", "gzip"));
    }
}
