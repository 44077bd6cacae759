//! Attention over keys and values in blocks of a device's memory.

use cudarc::driver::{CudaFunction, DeviceRepr};

use super::super::attention::AttentionShape;
use super::gpu::{launch, shape};
use super::product::int;
use super::{Buffer, CudaError, DeviceNorm, Gpu, padded};
use crate::kernel::{BLOCK_TOKENS, RopeTable};

/// Widths of heads that the kernels are compiled for; others are padded to the next.
const WIDTHS: [usize; 5] = [32, 64, 96, 128, 256];
/// Rows of a tile, tokens of a partition, warps of a block; as in attention.cu.
const TILE: usize = 16;
const PARTITION: usize = 256;
const WARPS: usize = 4;
/// Threads of a block.
const THREADS: u32 = 128;
/// Numbers of partitions that are kept at most; longer contexts are walked by one block.
const MOST_PARTIALS: usize = 32 << 20;

/// Neighbouring rows of one sequence, as the kernels read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// First row.
    pub row: u32,
    /// Number of rows.
    pub tokens: u32,
    /// Position of the first one.
    pub position: u32,
    /// Where the sequence's blocks begin among all tables.
    pub table: u32,
}

impl Tile {
    /// As it lies on the device.
    #[must_use]
    pub fn numbers(self) -> [u32; 4] {
        [self.row, self.tokens, self.position, self.table]
    }
}

/// Where the rows of a batch stand, by addresses of u32 on the device. Positions are below those of
/// every rotation, and all blocks are inside the cache.
#[derive(Debug, Clone, Copy)]
pub struct Placement {
    /// Rows.
    pub rows: usize,
    /// Each row's position in its sequence.
    pub positions: u64,
    /// Where each row's blocks begin in `tables`.
    pub table_of_row: u64,
    /// The block ids of all sequences.
    pub tables: u64,
    /// [`Tile`]s that cover all rows.
    pub tiles: u64,
    /// Number of tiles.
    pub tile_count: usize,
    /// At least the partitions that any tile sees.
    pub parts: usize,
}

/// Cosines and sines of each position, (positions, half).
pub struct Rotation {
    cos: Buffer<f32>,
    sin: Buffer<f32>,
    half: usize,
}

impl Rotation {
    /// The table's first positions on a device.
    pub fn upload(gpu: &Gpu, table: &RopeTable, positions: usize) -> Result<Self, CudaError> {
        let (cos, sin, half) = table.first(positions);
        Ok(Self {
            cos: gpu.upload("rotations", &cos)?,
            sin: gpu.upload("rotations", &sin)?,
            half,
        })
    }
}

/// What happens to queries and keys before they meet.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Norms of each head of the queries and the keys.
    pub norms: Option<&'a [DeviceNorm; 2]>,
    /// Rotation by position.
    pub rotation: Option<&'a Rotation>,
}

/// One layer's keys and values.
#[derive(Debug, Clone, Copy)]
pub struct Cache {
    /// Address of (blocks, kv_heads, 16, width) bf16.
    pub keys: u64,
    /// Address of (blocks, kv_heads, width, 16) bf16.
    pub values: u64,
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Heads {
    heads: i32,
    kv_heads: i32,
    head_dim: i32,
    window: i32,
    scale: f32,
    softcap: f32,
}

// SAFETY: plain numbers in C's layout, which is the kernels'.
unsafe impl DeviceRepr for Heads {}

impl From<&AttentionShape> for Heads {
    fn from(shape: &AttentionShape) -> Self {
        Self {
            heads: int(shape.heads),
            kv_heads: int(shape.kv_heads),
            head_dim: int(shape.head_dim),
            window: shape.window.map_or(0, int),
            scale: shape.scale,
            softcap: shape.softcap.unwrap_or(0.0),
        }
    }
}

#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct DeviceTurn {
    query_norm: u64,
    key_norm: u64,
    eps: f32,
    offset: f32,
    cos: u64,
    sin: u64,
    half: i32,
}

// SAFETY: plain numbers in C's layout, which is the kernels'.
unsafe impl DeviceRepr for DeviceTurn {}

impl From<Turn<'_>> for DeviceTurn {
    fn from(turn: Turn<'_>) -> Self {
        let [query_norm, key_norm] = turn.norms.map_or([0, 0], |norms| {
            norms.each_ref().map(|norm| norm.weight.at(0))
        });
        let (eps, offset) = turn
            .norms
            .map_or((0.0, 0.0), |[norm, _]| (norm.eps, norm.offset));
        let (cos, sin, half) = turn.rotation.map_or((0, 0, 0), |rotation| {
            (rotation.cos.at(0), rotation.sin.at(0), int(rotation.half))
        });
        Self {
            query_norm,
            key_norm,
            eps,
            offset,
            cos,
            sin,
            half,
        }
    }
}

/// The kernels for one model's heads, and what they need on the way.
pub struct Attention {
    place: CudaFunction,
    attend: CudaFunction,
    join: CudaFunction,
    width: usize,
    heads: usize,
    kv_heads: usize,
    partials: Buffer<f32>,
}

impl Attention {
    /// The width of a head of `head_dim` in the cache, if heads so wide are built.
    #[must_use]
    pub fn width(head_dim: usize) -> Option<usize> {
        WIDTHS.into_iter().find(|width| *width >= head_dim)
    }

    /// Rows of a tile, where `group` heads share their keys.
    #[must_use]
    pub fn tile_rows(group: usize) -> usize {
        (TILE / group).max(1)
    }

    /// Partitions that a row at this position may see.
    #[must_use]
    pub fn parts(position: usize) -> usize {
        position / PARTITION + 1
    }

    /// For heads so many and so wide, of a width that there is.
    pub fn load(
        gpu: &Gpu,
        (heads, kv_heads): (usize, usize),
        width: usize,
    ) -> Result<Self, CudaError> {
        let find = |name: &str| gpu.find(&format!("{name}_{width}"));
        Ok(Self {
            place: find("place")?,
            attend: find("attend")?,
            join: find("join_partitions")?,
            width,
            heads,
            kv_heads,
            partials: gpu.zeros("partitions of attention", 1)?,
        })
    }

    /// Makes room for what a batch needs. True if older addresses hold no more.
    pub fn fit(&mut self, gpu: &Gpu, placement: &Placement) -> Result<bool, CudaError> {
        let needed = self.partial_numbers(gpu, placement).unwrap_or(0);
        if needed <= self.partials.len() {
            return Ok(false);
        }
        let len = needed.next_power_of_two();
        self.partials = gpu.zeros("partitions of attention", len)?;
        Ok(true)
    }

    /// Numbers of all partitions, where each gets a block of its own: where there are too few tiles to
    /// keep the device busy.
    fn partial_numbers(&self, gpu: &Gpu, placement: &Placement) -> Option<usize> {
        let blocks = placement.tile_count * self.grid_heads();
        let numbers = blocks * placement.parts * (TILE * self.width + 2 * TILE);
        let is_cut =
            placement.parts > 1 && blocks < 2 * gpu.multiprocessors() && numbers <= MOST_PARTIALS;
        is_cut.then_some(numbers)
    }

    /// Partitions that get blocks of their own; 1 where each tile is walked by one block.
    #[must_use]
    pub fn parts_apart(&self, gpu: &Gpu, placement: &Placement) -> usize {
        self.partial_numbers(gpu, placement)
            .map_or(1, |_| placement.parts)
    }

    /// Tiles side by side that one token's heads need.
    fn grid_heads(&self) -> usize {
        self.kv_heads * (self.heads / self.kv_heads).div_ceil(TILE)
    }

    /// Norms and rotates queries and keys and puts them into `queries` (rows, heads, width) and, with
    /// the values, into their blocks. `qkv` is (rows, queries + keys + values) f32. No two of the rows
    /// have one place.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub(crate) fn place(
        &self,
        gpu: &Gpu,
        (qkv, at): (&Buffer<f32>, &Placement),
        (heads, turn): (&AttentionShape, Turn<'_>),
        (queries, cache): (&Buffer<u16>, Cache),
    ) -> Result<(), CudaError> {
        let all = self.heads + 2 * self.kv_heads;
        let numbers = at.rows * all * heads.head_dim;
        assert!(qkv.len() >= numbers, "{} of {numbers} numbers", qkv.len());
        let numbers = at.rows * self.heads * self.width;
        assert!(
            queries.len() >= numbers,
            "room for {} of {numbers}",
            queries.len()
        );
        let grid = shape([at.rows, all.div_ceil(WARPS), 1], THREADS, 0);
        // SAFETY: the buffers hold so many rows, by the checks; whoever made the placement vouches for
        // positions and blocks.
        unsafe {
            launch!(
                gpu,
                &self.place,
                grid,
                qkv.at(0),
                at.positions,
                at.table_of_row,
                at.tables,
                Heads::from(heads),
                DeviceTurn::from(turn),
                queries.at(0),
                cache.keys,
                cache.values
            )
        }
    }

    /// Attention of each row to the cached tokens of its sequence up to and including itself. `out` is
    /// (rows, stride) bf16.
    ///
    /// # Panics
    /// If a buffer is too short.
    pub(crate) fn attend(
        &self,
        gpu: &Gpu,
        (queries, at): (&Buffer<u16>, &Placement),
        (heads, cache): (&AttentionShape, Cache),
        out: &Buffer<u16>,
    ) -> Result<(), CudaError> {
        let stride = padded(heads.heads * heads.head_dim);
        assert!(
            queries.len() >= at.rows * self.heads * self.width,
            "{} queries",
            queries.len()
        );
        assert!(
            out.len() >= at.rows * stride,
            "room for {} of {} rows",
            out.len(),
            at.rows
        );
        let partials = self.partial_numbers(gpu, at);
        assert!(
            partials.unwrap_or(0) <= self.partials.len(),
            "no room for {partials:?}"
        );
        let parts = self.parts_apart(gpu, at);
        let total = size_of::<f32>() * (TILE * self.width + 2 * TILE);
        let blocks = [at.tile_count, self.grid_heads()];
        let grid = shape([blocks[0], blocks[1], parts], THREADS, 2 * total);
        let (keys, values, to) = (cache.keys, cache.values, out.at(0));
        let (heads, room) = (Heads::from(heads), self.partials.at(0));
        let room = if partials.is_some() { room } else { 0 };
        // SAFETY: the buffers hold so many rows and partitions, by the checks; whoever made the
        // placement vouches for the tiles and blocks.
        unsafe {
            launch!(
                gpu,
                &self.attend,
                grid,
                queries.at(0),
                at.tiles,
                at.tables,
                heads,
                keys,
                values,
                to,
                int(stride),
                room
            )
        }?;
        if partials.is_none() {
            return Ok(());
        }
        let grid = shape([blocks[0], blocks[1], 1], THREADS, total);
        // SAFETY: as above.
        unsafe {
            launch!(
                gpu,
                &self.join,
                grid,
                room,
                at.tiles,
                int(parts),
                heads,
                to,
                int(stride)
            )
        }
    }

    /// Numbers of one layer's keys, or values, in so many blocks.
    #[must_use]
    pub fn cache_numbers(&self, blocks: usize) -> usize {
        blocks * self.kv_heads * BLOCK_TOKENS * self.width
    }
}
