//! Linear layers for candle: the products above as tensor operations with gradients of their own.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail,
};

use super::super::storage::{elements, with_elements};
use super::{Dims, Mode, Operand, PackedMatrix, Precision, Target, gemm};

/// `x · wᵀ` for `x` of (.., in) and `w` of (out, in), differentiable in both.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear(x: &Tensor, w: &Tensor, precision: Precision) -> Result<Tensor> {
    let (_, inputs) = w.dims2()?;
    over_rows(x, inputs, |rows| {
        if ours(rows) && ours(w) {
            rows.apply_op2(w, Linear { precision })
        } else {
            rows.matmul(&w.t()?)
        }
    })
}

/// `x · wᵀ` for a frozen packed `w`; only `x` gets a gradient, and only where the transpose of `w` is
/// packed too, as `back`.
///
/// # Errors
/// If the shapes do not fit.
pub fn frozen_linear(
    x: &Tensor,
    packed: &Arc<PackedMatrix>,
    back: Option<&Arc<PackedMatrix>>,
) -> Result<Tensor> {
    let sizes = |matrix: &PackedMatrix| (matrix.out_features(), matrix.in_features());
    let (outputs, inputs) = sizes(packed);
    if let Some(back) = back
        && sizes(back) != (inputs, outputs)
    {
        let other = sizes(back);
        bail!("a weight of {outputs}x{inputs} is packed for the way back as {other:?}");
    }
    over_rows(x, inputs, |rows| {
        rows.apply_op1(FrozenLinear {
            packed: Arc::clone(packed),
            back: back.map(Arc::clone),
        })
    })
}

/// `y + x · wᵀ` in f32, for `y` of (rows, out), `x` of (rows, in) and `w` of (out, in); the products are
/// summed on top of `y`, as a sum of products is. Differentiable in all three.
///
/// # Errors
/// If the shapes do not fit.
pub fn linear_onto(y: &Tensor, x: &Tensor, w: &Tensor) -> Result<Tensor> {
    y.contiguous()?.apply_op3(x, w, LinearOnto)
}

fn ours(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32
}

/// Runs `work` on `x` as (rows, inputs) and gives its result the leading sizes of `x`.
fn over_rows(
    x: &Tensor,
    inputs: usize,
    work: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let sizes = x.dims();
    if sizes.last() != Some(&inputs) {
        bail!("a linear layer of {inputs} inputs was given a tensor of shape {sizes:?}");
    }
    if sizes.len() == 2 {
        return work(x);
    }
    let rows = sizes[..sizes.len() - 1].iter().product::<usize>();
    let out = work(&x.reshape((rows, inputs))?)?;
    let mut shape = sizes.to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out.dim(1)?;
    }
    out.reshape(shape)
}

/// The product of two matrices of any strides, without a gradient.
struct Product {
    precision: Precision,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (m, k) = a_layout.shape().dims2()?;
        let (inner, n) = b_layout.shape().dims2()?;
        if k != inner {
            bail!("a product of {m}x{k} and {inner}x{n} matrices has no meaning");
        }
        let mut out = vec![0.0; m * n];
        let (a, b) = (operand(a, a_layout)?, operand(b, b_layout)?);
        gemm(Dims { m, n, k }, a, b, &mut out, self.precision.into());
        Ok((CpuStorage::F32(out), Shape::from((m, n))))
    }
}

/// A matrix of candle's as an operand, at its own strides.
fn operand<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Operand<'a>> {
    let data = &storage.as_slice::<f32>()?[layout.start_offset()..];
    let [row_stride, col_stride] = *layout.stride() else {
        bail!("a matrix expected, got shape {:?}", layout.shape());
    };
    Ok(Operand {
        data,
        row_stride,
        col_stride,
    })
}

fn product(a: &Tensor, b: &Tensor, precision: Precision) -> Result<Tensor> {
    a.apply_op2_no_bwd(b, &Product { precision })
}

struct Linear {
    precision: Precision,
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let product = Product {
            precision: self.precision,
        };
        product.cpu_fwd(x, x_layout, w, &w_layout.transpose(0, 1)?)
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // Only sides that lead to a variable: a gradient nobody asked for would be computed and kept.
        let grad_x = x
            .track_op()
            .then(|| product(grad, w, self.precision))
            .transpose()?;
        let grad_w = w
            .track_op()
            .then(|| product(&grad.t()?, x, self.precision))
            .transpose()?;
        Ok((grad_x, grad_w))
    }
}

struct LinearOnto;

impl CustomOp3 for LinearOnto {
    fn name(&self) -> &'static str {
        "linear-onto"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        y_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let ((m, k), (n, inner)) = (x_layout.shape().dims2()?, w_layout.shape().dims2()?);
        if (y_layout.dims(), k) != (&[m, n], inner) {
            let y = y_layout.dims();
            bail!("rows of {k} inputs and a weight of {n}x{inner} do not add to {y:?}");
        }
        let mut out = elements(y, y_layout)?.to_vec();
        let (x, w) = (operand(x, x_layout)?, operand(w, w_layout)?);
        let mode = Mode {
            precision: Precision::F32,
            accumulate: true,
        };
        gemm(Dims { m, n, k }, x, w.transposed(), &mut out, mode);
        Ok((CpuStorage::F32(out), Shape::from((m, n))))
    }

    fn bwd(
        &self,
        y: &Tensor,
        x: &Tensor,
        w: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let linear = Linear {
            precision: Precision::F32,
        };
        let (grad_x, grad_w) = linear.bwd(x, w, res, grad)?;
        Ok((y.track_op().then(|| grad.clone()), grad_x, grad_w))
    }
}

struct FrozenLinear {
    packed: Arc<PackedMatrix>,
    back: Option<Arc<PackedMatrix>>,
}

/// All rows of `x` through a packed matrix.
fn through(matrix: &PackedMatrix, x: Operand<'_>, rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; rows * matrix.out_features()];
    let target = Target {
        data: &mut out,
        stride: matrix.out_features(),
    };
    matrix.times(x, rows, target);
    out
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, _) = layout.shape().dims2()?;
        let out = through(&self.packed, operand(x, layout)?, rows);
        Ok((
            CpuStorage::F32(out),
            Shape::from((rows, self.packed.out_features())),
        ))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let Some(back) = &self.back else {
            bail!("a matrix that was packed for serving alone has no gradient");
        };
        let (rows, outputs) = grad.dims2()?;
        let dx = with_elements(grad, |grad| {
            through(back, Operand::row_major(grad, outputs), rows)
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}
