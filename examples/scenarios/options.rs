//! The command line.

/// What to run, and how often.
pub(crate) struct Options {
    /// Fewer seeds, shorter matches.
    pub quick: bool,
    /// Seeds of the hard case.
    pub seeds: u64,
    only: Vec<String>,
}

const USAGE: &str = "usage: scenarios [--quick] [--seeds N] [--only NAME]...";

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(
        mut arguments: impl Iterator<Item = String>,
        names: &[&str],
    ) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            seeds: 3_000,
            only: Vec::new(),
        };
        let mut seeds = None;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--seeds" => {
                    let value = arguments.next().ok_or(USAGE)?;
                    let number = value.parse().ok().filter(|number| *number > 0);
                    seeds = Some(number.ok_or_else(|| format!("--seeds {value}: not a count"))?);
                }
                "--only" => {
                    let name = arguments.next().ok_or(USAGE)?;
                    if !names.contains(&name.as_str()) {
                        return Err(format!("no scenario {name:?}: there are {names:?}"));
                    }
                    options.only.push(name);
                }
                _ => return Err(format!("unknown argument {argument:?}; {USAGE}")),
            }
        }
        options.seeds = seeds.unwrap_or(if options.quick { 300 } else { options.seeds });
        Ok(options)
    }

    /// Whether the scenario is to run.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}
