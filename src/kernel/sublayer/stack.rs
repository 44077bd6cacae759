//! Sublayers one after another, as one node of the graph.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};

use super::super::storage::{elements, wants_gradient, with_elements};
use super::{Buffer, BufferPool, Gradients, Sublayer, WayBack};

/// Sublayers over one batch, to be run from the first that was put here to the last.
pub struct Stack {
    sublayers: Vec<Box<dyn Sublayer>>,
    /// Tensors of all updates, in order.
    updates: Vec<Tensor>,
    buffers: Arc<BufferPool>,
}

impl Stack {
    /// No sublayer yet; they work in `buffers`.
    #[must_use]
    pub fn new(buffers: &Arc<BufferPool>) -> Self {
        Self {
            sublayers: Vec::new(),
            updates: Vec::new(),
            buffers: Arc::clone(buffers),
        }
    }

    pub(super) const fn buffers(&self) -> &Arc<BufferPool> {
        &self.buffers
    }

    pub(super) fn push(
        &mut self,
        sublayer: impl Sublayer + 'static,
        updates: Vec<Tensor>,
    ) -> Result<()> {
        let (given, expected) = (
            updates.iter().map(Tensor::elem_count).sum::<usize>(),
            sublayer.update_len(),
        );
        if given != expected {
            bail!("a sublayer was given {given} numbers of updates, expected {expected}");
        }
        self.sublayers.push(Box::new(sublayer));
        self.updates.extend(updates);
        Ok(())
    }

    /// What becomes of the residual stream `x`, (rows, width); differentiable in it and in the
    /// updates.
    ///
    /// # Errors
    /// If its width is not that of every sublayer.
    pub fn run(self, x: &Tensor) -> Result<Tensor> {
        let (_, width) = x.dims2()?;
        if let Some(sublayer) = self.sublayers.iter().find(|s| s.width() != width) {
            let expected = sublayer.width();
            bail!("rows of {width} for a sublayer of width {expected}");
        }
        let flat: Result<Vec<Tensor>> = self.updates.iter().map(Tensor::flatten_all).collect();
        let numbers = match flat?.as_slice() {
            [] => Tensor::zeros(0, DType::F32, &Device::Cpu)?,
            flat => Tensor::cat(flat, 0)?,
        };
        let node = Node {
            sublayers: self.sublayers,
            buffers: self.buffers,
            wanted: (wants_gradient(x), wants_gradient(&numbers)),
            kept: OnceLock::new(),
        };
        x.contiguous()?.apply_op2(&numbers.contiguous()?, node)
    }
}

struct Node {
    sublayers: Vec<Box<dyn Sublayer>>,
    buffers: Arc<BufferPool>,
    /// Whether gradients of the residual stream, and of the updates, are wanted.
    wanted: (bool, bool),
    kept: OnceLock<Vec<Kept>>,
}

/// What one sublayer left for the way back.
struct Kept {
    /// Its input; the first one's is the node's.
    x: Option<Buffer>,
    rest: Box<dyn WayBack>,
}

impl Node {
    fn forward(&self, x: &[f32], mut numbers: &[f32], out: &mut [f32]) -> Vec<Kept> {
        let keeps = self.wanted.0 || self.wanted.1;
        let mut kept = Vec::with_capacity(self.sublayers.len());
        // what the sublayer before this one made
        let mut made: Option<Buffer> = None;
        for (index, sublayer) in self.sublayers.iter().enumerate() {
            let (own, others) = numbers.split_at(sublayer.update_len());
            numbers = others;
            let x = made.as_deref().unwrap_or(x);
            let (rest, next) = if index + 1 == self.sublayers.len() {
                (sublayer.forward(x, own, out), None)
            } else {
                let mut next = self.buffers.lend(x.len());
                (sublayer.forward(x, own, &mut next), Some(next))
            };
            let x = std::mem::replace(&mut made, next);
            if keeps {
                kept.push(Kept { x, rest });
            }
        }
        if self.sublayers.is_empty() {
            out.copy_from_slice(x);
        }
        kept
    }

    fn backward(
        &self,
        kept: &[Kept],
        (x, numbers): (&[f32], &[f32]),
        grad: &[f32],
        to: Gradients<'_>,
    ) {
        let (mut dx, mut d_numbers) = (to.x, to.updates);
        let mut end = numbers.len();
        let mut after: Option<Buffer> = None;
        let sublayers = self.sublayers.iter().zip(kept).enumerate().rev();
        for (index, (sublayer, kept)) in sublayers {
            let own = end - sublayer.update_len()..end;
            end = own.start;
            let grad = after.as_deref().unwrap_or(grad);
            let mut before = (index > 0).then(|| self.buffers.lend(grad.len()));
            let to = Gradients {
                x: match &mut before {
                    Some(before) => Some(before),
                    None => dx.take(),
                },
                updates: d_numbers.as_deref_mut().map(|d| &mut d[own.clone()]),
            };
            let x = kept.x.as_deref().unwrap_or(x);
            kept.rest.backward(x, &numbers[own], grad, to);
            after = before;
        }
        if let Some(dx) = dx.filter(|_| self.sublayers.is_empty()) {
            dx.copy_from_slice(grad);
        }
    }
}

/// Runs `work` in the thread pool, so that the parallel parts of it follow on each other there.
fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        "sublayers"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        numbers: &CpuStorage,
        numbers_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, numbers) = (elements(x, x_layout)?, elements(numbers, numbers_layout)?);
        let mut out = vec![0f32; x.len()];
        let kept = in_pool(|| self.forward(x, numbers, &mut out));
        // an operation runs once
        let _ = self.kept.set(kept);
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        numbers: &Tensor,
        _res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let zeros = |wanted: bool, like: &Tensor| wanted.then(|| vec![0f32; like.elem_count()]);
        let mut dx = zeros(self.wanted.0, x);
        let mut d_numbers = zeros(self.wanted.1, numbers);
        let to = Gradients {
            x: dx.as_deref_mut(),
            updates: d_numbers.as_deref_mut(),
        };
        let kept = self.kept.get().map(Vec::as_slice).unwrap_or_default();
        with_elements(x, |x| {
            with_elements(numbers, |numbers| {
                with_elements(grad, |grad| {
                    in_pool(|| self.backward(kept, (x, numbers), grad, to));
                })
            })
        })???;
        let tensor = |found: Option<Vec<f32>>, like: &Tensor| {
            found
                .map(|numbers| Tensor::from_vec(numbers, like.shape(), like.device()))
                .transpose()
        };
        Ok((tensor(dx, x)?, tensor(d_numbers, numbers)?))
    }
}
