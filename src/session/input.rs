//! What the transport must know of a game's input: its size on the wire.

use ggrs::Config;

use rollback_lab_link::ggrs_wire::{MAX_MESSAGE, MAX_VARIABLE_INPUT};

/// What else stands in an input message: its head and one status per player, and what a run-length
/// encoding adds to bytes that do not repeat.
const INPUT_OVERHEAD: usize = 160;
/// The largest input that one message can carry.
const MAX_INPUT_BYTES: usize = MAX_MESSAGE - INPUT_OVERHEAD;

/// Larger inputs are taken to have a fixed size; smaller ones may vary, as those of an enum do.
pub(super) fn fixed_input_bytes<C: Config>() -> Option<usize> {
    let size = bincode::serialized_size(&C::Input::default()).ok()?;
    let size = usize::try_from(size).ok()?;
    (size > MAX_VARIABLE_INPUT).then_some(size)
}

/// Refuses an input that no datagram holds.
pub(super) fn check_input<C: Config>() -> Result<(), String> {
    let size = bincode::serialized_size(&C::Input::default())
        .map_err(|error| format!("its default value cannot be serialized: {error}"))?;
    if size > MAX_INPUT_BYTES as u64 {
        return Err(format!(
            "one serialized input has {size} bytes, at most {MAX_INPUT_BYTES} fit into a datagram"
        ));
    }
    Ok(())
}
