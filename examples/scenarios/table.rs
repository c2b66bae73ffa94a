//! The rows of the table.

/// One line of the table: what was run, what was measured, what must hold.
pub(crate) struct Row {
    /// What was run.
    pub what: String,
    /// How often.
    pub runs: u64,
    /// The result.
    pub measured: String,
    /// The requirement that is not met, if any.
    pub broken: Option<String>,
}

impl Row {
    /// A row that holds unless a [requirement](Self::require) is not met.
    pub(crate) fn new(what: impl Into<String>, runs: u64, measured: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            runs,
            measured: measured.into(),
            broken: None,
        }
    }

    /// Adds a requirement. The row shows the first one that is not met.
    pub(crate) fn require(mut self, holds: bool, fact: impl Into<String>) -> Self {
        if !holds {
            self.broken.get_or_insert_with(|| fact.into());
        }
        self
    }

    /// Prints the row under its scenario's name.
    pub(crate) fn print(&self, scenario: &str) {
        println!(
            "| {scenario} | {} | {} | {} | {} |",
            self.what,
            self.runs,
            self.measured,
            match &self.broken {
                None => "yes".to_owned(),
                Some(fact) => format!("NO: {fact}"),
            }
        );
    }
}

/// Prints the head of the table, in Markdown.
pub(crate) fn print_head() {
    println!("| scenario | what | runs | measured | holds |");
    println!("|---|---|---|---|---|");
}
