//! Owns `rollback-lab desync`: two halves of a desync, and what differs. Never changes a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use rollback_lab_record::desync::{Comparison, DesyncBundle};
use serde_json::{Value, json};

#[derive(Args)]
pub(crate) struct Desync {
    /// The `desync-<n>.player-<k>.json` of one peer.
    #[arg(value_name = "FILE")]
    one: PathBuf,
    /// That of the other peer of the same episode.
    #[arg(value_name = "FILE")]
    other: PathBuf,
    /// Print one JSON document instead of sentences.
    #[arg(long)]
    json: bool,
}

/// Prints what the halves tell. Success means that they could be compared.
pub(crate) fn desync(options: &Desync) -> ExitCode {
    let compared = read(&options.one).and_then(|one| {
        let other = read(&options.other)?;
        let told = one.compare(&other).map_err(|error| error.to_string())?;
        Ok((one, other, told))
    });
    match compared {
        Ok((one, other, told)) => {
            if options.json {
                println!("{:#}", json(&one, &other, &told));
            } else {
                print(&one, &other, &told);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("rollback-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &Path) -> Result<DesyncBundle, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(|error| named(&error))?;
    DesyncBundle::parse(&text).map_err(|error| named(&error))
}

fn json(one: &DesyncBundle, other: &DesyncBundle, told: &Comparison) -> Value {
    let differences: Vec<Value> = told
        .differences
        .iter()
        .map(|(place, values)| json!({ "pointer": place, "values": values }))
        .collect();
    json!({
        "episodeId": one.episode_id,
        "playerIds": [one.session.local_player_id, other.session.local_player_id],
        "firstDifferingComparedFrame": first_compared(one, other),
        "comparedEveryFrames": one.compared_every_frames,
        "lastEqualFrame": told.last_equal_frame,
        "firstDifferingFrame": told.first_differing_frame,
        "differences": differences,
        "differingInputs": told.differing_inputs,
    })
}

/// The first compared frame whose states differed, of what both halves say.
fn first_compared(one: &DesyncBundle, other: &DesyncBundle) -> Option<i32> {
    let halves = [one.first_differing_frame, other.first_differing_frame];
    halves.into_iter().flatten().min()
}

fn print(one: &DesyncBundle, other: &DesyncBundle, told: &Comparison) {
    let player = |half: &DesyncBundle| half.session.local_player_id.unwrap_or_default();
    println!(
        "episode {}: players {} and {} computed different states",
        one.episode_id,
        player(one),
        player(other),
    );
    match first_compared(one, other) {
        Some(frame) => println!(
            "frame {frame} is the first of those compared, every {}th, that differs",
            one.compared_every_frames
        ),
        None => println!("the difference came after the last frame that was compared"),
    }
    match told.last_equal_frame {
        Some(frame) => println!("the printed states are equal through frame {frame}"),
        None => println!("no printed state before that was kept by both"),
    }
    let shown = |value: &Option<Value>| match value {
        Some(value) => value.to_string(),
        None => String::from("nothing"),
    };
    match told.first_differing_frame {
        Some(frame) => println!("at frame {frame}:"),
        None => println!("the printed states do not differ: print more of the state"),
    }
    for (place, [ours, theirs]) in &told.differences {
        println!("  {place}: {} and {}", shown(ours), shown(theirs));
    }
    if told.differing_inputs.is_empty() {
        println!("both applied the same inputs: the simulation differs, not the network");
    } else {
        println!(
            "different inputs were applied at frames {:?}",
            told.differing_inputs
        );
    }
}
