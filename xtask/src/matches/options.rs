//! The arguments of a command that plays matches: options with values, switches and names.

use std::path::PathBuf;
use std::str::FromStr;

/// Arguments as they were typed, taken one by one.
pub(crate) struct Arguments {
    rest: Vec<String>,
}

impl Arguments {
    pub(crate) fn new(arguments: &[String]) -> Self {
        Self {
            rest: arguments.to_vec(),
        }
    }

    /// Whether a switch such as `--list` is there.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let before = self.rest.len();
        self.rest.retain(|argument| argument != name);
        self.rest.len() < before
    }

    /// The value behind an option such as `--seed`.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(at) = self.rest.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        if at + 1 == self.rest.len() {
            return Err(format!("{name} wants a value"));
        }
        let text = self.rest.remove(at + 1);
        self.rest.remove(at);
        let parsed = text.parse();
        parsed
            .map(Some)
            .map_err(|_| format!("{name} cannot be `{text}`"))
    }

    /// The folder behind an option, as it is seen from any working folder.
    pub(crate) fn folder(&mut self, name: &str) -> Result<Option<PathBuf>, String> {
        let folder: Option<PathBuf> = self.value(name)?;
        folder
            .map(|folder| {
                std::path::absolute(&folder)
                    .map_err(|error| format!("{name} {}: {error}", folder.display()))
            })
            .transpose()
    }

    /// What is left, which may not be options.
    pub(crate) fn names(self) -> Result<Vec<String>, String> {
        match self.rest.iter().find(|argument| argument.starts_with('-')) {
            Some(unknown) => Err(format!("unknown option `{unknown}`")),
            None => Ok(self.rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Arguments {
        let words: Vec<String> = text.split_whitespace().map(String::from).collect();
        Arguments::new(&words)
    }

    #[test]
    fn options_are_taken_and_names_are_left() {
        let mut given = arguments("a --seed 7 --list b");
        assert!(given.switch("--list") && !given.switch("--list"));
        assert_eq!(given.value("--seed"), Ok(Some(7_u64)));
        assert_eq!(given.value::<u64>("--seed"), Ok(None));
        assert_eq!(given.names().unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_wrong_option_is_refused_by_name() {
        let error = arguments("--seed").value::<u64>("--seed").unwrap_err();
        assert_eq!(error, "--seed wants a value");
        let error = arguments("--seed x").value::<u64>("--seed").unwrap_err();
        assert_eq!(error, "--seed cannot be `x`");
        let error = arguments("a --fast").names().unwrap_err();
        assert_eq!(error, "unknown option `--fast`");
    }
}
