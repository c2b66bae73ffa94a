//! `rollback-lab desync`: what two peers computed differently, and from which frame on, read from
//! the two files that they wrote when their states differed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use rollback_lab_record::desync::{Comparison, DesyncBundle};
use serde_json::{Value, json};

use crate::error::{CommandError, FileError};

#[derive(Args)]
pub(crate) struct DesyncOptions {
    /// The `desync-<n>.player-<k>.json` of one peer
    #[arg(value_name = "FILE")]
    one: PathBuf,
    /// That of the other peer of the same episode
    #[arg(value_name = "FILE")]
    other: PathBuf,
    /// Print one JSON document instead of sentences
    #[arg(long)]
    json: bool,
}

/// Prints what differs between the halves. Finding a difference is not an error.
///
/// # Errors
/// When the files cannot be read or compared.
pub(crate) fn desync(options: &DesyncOptions) -> Result<(), CommandError> {
    let one = read(&options.one)?;
    let other = read(&options.other)?;
    let comparison = one.compare(&other).map_err(|error| CommandError::Compare {
        one: options.one.clone(),
        other: options.other.clone(),
        source: error.into(),
    })?;
    if options.json {
        println!("{:#}", json(&one, &other, &comparison));
    } else {
        print(&one, &other, &comparison);
    }
    Ok(())
}

fn read(path: &Path) -> Result<DesyncBundle, CommandError> {
    let parse = || -> Result<DesyncBundle, FileError> {
        Ok(DesyncBundle::parse(&fs::read_to_string(path)?)?)
    };
    parse().map_err(|source| CommandError::Read {
        path: path.to_owned(),
        source,
    })
}

fn json(one: &DesyncBundle, other: &DesyncBundle, comparison: &Comparison) -> Value {
    let differences: Vec<Value> = comparison
        .differences
        .iter()
        .map(|(pointer, values)| json!({ "pointer": pointer, "values": values }))
        .collect();
    json!({
        "episodeId": one.episode_id,
        "playerIds": [one.session.local_player_id, other.session.local_player_id],
        "firstDifferingComparedFrame": first_compared(one, other),
        "comparedEveryFrames": one.compared_every_frames,
        "lastEqualFrame": comparison.last_equal_frame,
        "firstDifferingFrame": comparison.first_differing_frame,
        "differences": differences,
        "differingInputs": comparison.differing_inputs,
    })
}

/// The first frame at which the peers compared checksums and found them different, by the half
/// that saw it first.
fn first_compared(one: &DesyncBundle, other: &DesyncBundle) -> Option<i32> {
    let halves = [one.first_differing_frame, other.first_differing_frame];
    halves.into_iter().flatten().min()
}

fn print(one: &DesyncBundle, other: &DesyncBundle, comparison: &Comparison) {
    let player = |half: &DesyncBundle| half.session.local_player_id.unwrap_or_default();
    println!(
        "episode {}: players {} and {} computed different states",
        one.episode_id,
        player(one),
        player(other),
    );
    match first_compared(one, other) {
        Some(frame) => println!(
            "frame {frame} is the first whose checksums differ; every {}th was compared",
            one.compared_every_frames
        ),
        None => println!("the checksums of all compared frames are equal"),
    }
    match comparison.last_equal_frame {
        Some(frame) => println!("the serialized states are equal through frame {frame}"),
        None => println!("no equal state was kept by both peers"),
    }
    match comparison.first_differing_frame {
        Some(frame) => println!("at frame {frame}:"),
        None => println!(
            "the serialized states do not differ: serialize more of the state to see what does"
        ),
    }
    let value = |value: &Option<Value>| {
        let text = value.as_ref().map(Value::to_string);
        text.unwrap_or_else(|| String::from("nothing"))
    };
    for (pointer, [ours, theirs]) in &comparison.differences {
        println!("  {pointer}: {} and {}", value(ours), value(theirs));
    }
    if comparison.differing_inputs.is_empty() {
        println!("both applied the same inputs: the simulation differs, not the network");
    } else {
        println!(
            "different inputs were applied at frames {:?}",
            comparison.differing_inputs
        );
    }
}
