//! What a step tells the device: tokens, positions, blocks, and which rows are taken together.

use crate::kernel::BLOCK_TOKENS;
use crate::kernel::cuda::{Attention, Buffer, PickedRows, Placement, Tile};

use super::super::kv::BlockId;
use super::super::serving::ServedStep;

/// A step as plain numbers, in the order in which they lie on the device.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) numbers: Vec<u32>,
    rows: usize,
    draws: Option<usize>,
    tiles: usize,
    parts: usize,
}

/// The same on the device.
#[derive(Clone, Copy)]
pub(super) struct DeviceInputs {
    pub(super) placement: Placement,
    pub(super) tokens: u64,
    pub(super) draws: PickedRows,
}

impl Inputs {
    /// Of a step that was checked. With `padded` rows, which is at least those there are, further ones
    /// are added that write to the block `spare`; every row draws then.
    pub(super) fn of(
        step: ServedStep<'_>,
        (group, padded): (usize, Option<usize>),
        spare: BlockId,
    ) -> Self {
        let batch = step.batch;
        let (mut rows_of, mut tables, mut tiles) = (Vec::new(), Vec::new(), Vec::new());
        let together = Attention::tile_rows(group);
        for (span, table) in batch.spans.iter().zip(step.tables) {
            let first = batch.positions.get(span.start).copied().unwrap_or(0) as usize;
            let needed = (first + span.len).div_ceil(BLOCK_TOKENS);
            let at = tables.len() as u32;
            tables.extend_from_slice(&table[..needed]);
            rows_of.extend(std::iter::repeat_n(at, span.len));
            for start in (0..span.len).step_by(together) {
                tiles.push(Tile {
                    row: (span.start + start) as u32,
                    tokens: together.min(span.len - start) as u32,
                    position: (first + start) as u32,
                    table: at,
                });
            }
        }
        let mut tokens = batch.token_ids.clone();
        let mut positions = batch.positions.clone();
        for row in tokens.len()..padded.unwrap_or(0) {
            let table = tables.len() as u32;
            tables.push(spare);
            tokens.push(0);
            positions.push(0);
            rows_of.push(table);
            tiles.push(Tile {
                row: row as u32,
                tokens: 1,
                position: 0,
                table,
            });
        }
        let last = |tile: &Tile| Attention::parts((tile.position + tile.tokens - 1) as usize);
        let parts = tiles.iter().map(last).max().unwrap_or(1);
        let mut inputs = Self {
            rows: tokens.len(),
            draws: padded.is_none().then_some(step.draws.len()),
            tiles: tiles.len(),
            // few different ones, for few recorded steps
            parts: padded.map_or(parts, |_| parts.next_power_of_two()),
            numbers: tokens,
        };
        let numbers = &mut inputs.numbers;
        numbers.extend(positions);
        numbers.extend(rows_of);
        numbers.extend(tiles.into_iter().flat_map(Tile::numbers));
        if padded.is_none() {
            numbers.extend_from_slice(step.draws);
        }
        // last, as their number is the one that a key does not tell
        numbers.extend(tables);
        inputs
    }

    /// Where all of it lies once it is in this buffer.
    pub(super) fn on(&self, buffer: &Buffer<u32>) -> DeviceInputs {
        let rows = self.rows;
        let tiles = 3 * rows;
        let draws = tiles + 4 * self.tiles;
        let tables = draws + self.draws.unwrap_or(0);
        DeviceInputs {
            tokens: buffer.at(0),
            placement: Placement {
                rows,
                positions: buffer.at(rows),
                table_of_row: buffer.at(2 * rows),
                tables: buffer.at(tables),
                tiles: buffer.at(tiles),
                tile_count: self.tiles,
                parts: self.parts,
            },
            draws: match self.draws {
                None => PickedRows {
                    count: rows,
                    indices: 0,
                },
                Some(count) => PickedRows {
                    count,
                    indices: buffer.at(draws),
                },
            },
        }
    }
}
