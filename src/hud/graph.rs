//! The graph of the last ticks: one column of pixels per tick, the newest on the right.

use bevy::asset::RenderAssetUsages;
use bevy::image::ImageSampler;
use bevy::prelude::*;
use bevy::render::render_resource::{Extent3d, TextureDimension, TextureFormat};

use crate::diagnostics::{LiveStats, TickStats};

/// A pixel per tick.
pub(super) const WIDTH: usize = LiveStats::TICKS;
/// Pixels per frame of depth.
const FRAME_PIXELS: usize = 4;
/// Depth at the upper edge: twice the usual prediction window. Deeper bars are cut off there.
const MAX_DEPTH: usize = 16;
/// The base line, and the bars above it.
pub(super) const HEIGHT: usize = FRAME_PIXELS * MAX_DEPTH + 1;
/// Bytes of a pixel: RGBA.
const PIXEL: usize = 4;

const EMPTY: [u8; PIXEL] = [0, 0, 0, 90];
/// A line at every fourth frame of depth.
const GRID: [u8; PIXEL] = [255, 255, 255, 34];
const BASE_LINE: [u8; PIXEL] = [255, 255, 255, 110];
const ROLLBACK: [u8; PIXEL] = [255, 196, 61, 255];
/// From half of the graph on: such a correction is hard to overlook in the game.
const DEEP: [u8; PIXEL] = [255, 122, 69, 255];
const STALL: [u8; PIXEL] = [239, 71, 111, 210];

/// The image that the HUD shows.
#[derive(Resource)]
pub(super) struct GraphImage(pub Handle<Image>);

/// An empty graph.
pub(super) fn image() -> Image {
    let size = Extent3d {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        depth_or_array_layers: 1,
    };
    let mut image = Image::new_fill(
        size,
        TextureDimension::D2,
        &EMPTY,
        TextureFormat::Rgba8UnormSrgb,
        RenderAssetUsages::default(),
    );
    image.sampler = ImageSampler::nearest();
    image
}

/// Paints ticks, oldest first, aligned to the right edge. Pixels are RGBA by rows from the top.
pub(super) fn paint(ticks: impl ExactSizeIterator<Item = TickStats>, pixels: &mut [u8]) {
    let empty = WIDTH.saturating_sub(ticks.len());
    let nothing = std::iter::repeat_n(TickStats::default(), empty);
    for (x, tick) in nothing.chain(ticks).enumerate() {
        let bar = (tick.depth as usize).min(MAX_DEPTH) * FRAME_PIXELS;
        for y in 0..HEIGHT {
            let height = HEIGHT - 1 - y;
            let color = if height == 0 {
                BASE_LINE
            } else if height <= bar && tick.depth as usize > MAX_DEPTH / 2 {
                DEEP
            } else if height <= bar {
                ROLLBACK
            } else if tick.stalled {
                STALL
            } else if height.is_multiple_of(4 * FRAME_PIXELS) {
                GRID
            } else {
                EMPTY
            };
            let at = (y * WIDTH + x) * PIXEL;
            if let Some(pixel) = pixels.get_mut(at..at + PIXEL) {
                pixel.copy_from_slice(&color);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(ticks: &[TickStats]) -> Vec<u8> {
        let mut pixels = vec![0; WIDTH * HEIGHT * PIXEL];
        paint(ticks.iter().copied(), &mut pixels);
        pixels
    }

    fn pixel(pixels: &[u8], from_right: usize, height: usize) -> [u8; PIXEL] {
        let (x, y) = (WIDTH - 1 - from_right, HEIGHT - 1 - height);
        let at = (y * WIDTH + x) * PIXEL;
        pixels[at..at + PIXEL].try_into().unwrap()
    }

    #[test]
    fn the_newest_tick_is_on_the_right_and_a_bar_is_as_high_as_its_rollback_is_deep() {
        let rollback = TickStats {
            depth: 3,
            ..TickStats::default()
        };
        let pixels = painted(&[rollback, TickStats::default()]);
        assert_eq!(pixel(&pixels, 0, 1), EMPTY);
        assert_eq!(pixel(&pixels, 1, 3 * FRAME_PIXELS), ROLLBACK);
        assert_eq!(pixel(&pixels, 1, 3 * FRAME_PIXELS + 1), EMPTY);
        assert_eq!(pixel(&pixels, 2, 1), EMPTY);
    }

    #[test]
    fn a_stall_fills_its_column_and_the_deepest_rollback_stays_inside() {
        let stalled = TickStats {
            stalled: true,
            ..TickStats::default()
        };
        let deep = TickStats {
            depth: 99,
            ..TickStats::default()
        };
        let pixels = painted(&[stalled, deep]);
        assert_eq!(pixel(&pixels, 1, HEIGHT - 1), STALL);
        assert_eq!(pixel(&pixels, 0, HEIGHT - 1), DEEP);
        assert_eq!(pixels.len(), WIDTH * HEIGHT * PIXEL);
    }
}
