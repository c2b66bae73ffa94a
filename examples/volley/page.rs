//! The page around the demo: its address becomes settings.
//!
//! Owns what is particular to a browser. Never draws and never plays.

use bevy::prelude::*;

use crate::settings::Settings;

/// The settings that the page's address names.
///
/// # Errors
/// What in it cannot be used, in words for the person who made the link.
pub fn settings() -> Result<Settings, String> {
    Ok(Settings::default())
}

/// Says why there is no match.
pub fn refuse(error: &str) {
    error!("{error}");
}

/// What the page adds to the app.
pub fn plugin(_app: &mut App) {}
