//! Owns the rows of the table. Never measures.

/// One line: what was run, what must hold, what was measured.
pub(crate) struct Row {
    /// What was run.
    pub what: String,
    /// How often.
    pub runs: u64,
    /// What came out.
    pub measured: String,
    /// What did not hold, if anything.
    pub broken: Option<String>,
}

impl Row {
    /// A row that holds as long as nothing is [`required`](Self::require) in vain.
    pub(crate) fn new(what: impl Into<String>, runs: u64, measured: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            runs,
            measured: measured.into(),
            broken: None,
        }
    }

    /// Says what must hold; the first thing that does not is told.
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
