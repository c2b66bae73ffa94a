//! The command line.

/// How often to play, and how long.
pub(crate) struct Options {
    /// Matches of every stack and input delay.
    pub runs: u32,
    /// Frames of a match.
    pub frames: u32,
    /// The frame from which direct packets are dropped.
    pub outage_at: i32,
}

const USAGE: &str = "usage: failover [--quick] [--runs N]";

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        // Both lengths leave three seconds of outage: ggrs disconnects a silent peer after two.
        let mut options = Self {
            runs: 3,
            frames: 360,
            outage_at: 180,
        };
        let mut runs = None;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => {
                    options = Self {
                        runs: 1,
                        frames: 270,
                        outage_at: 90,
                    };
                }
                "--runs" => {
                    let value = arguments.next().ok_or(USAGE)?;
                    let number = value.parse().ok().filter(|number| *number > 0);
                    runs = Some(number.ok_or_else(|| format!("--runs {value}: not a count"))?);
                }
                _ => return Err(format!("unknown argument {argument:?}; {USAGE}")),
            }
        }
        options.runs = runs.unwrap_or(options.runs);
        Ok(options)
    }
}
