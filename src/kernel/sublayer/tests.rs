//! Sublayers against the same made of one operation after another: values and every gradient.

mod parts;

use std::sync::Arc;

use candle_core::{Result, Tensor, Var};

use super::super::{
    Activation, AttentionShape, RopeTable, SpanRange, causal_attention, gated, rope,
};
use super::*;
use parts::{Layer, Numbers, assert_close, floats, low_ranks, plain_norm, projections};

/// Values and gradients of two ways to compute the same from `x` and the layers' variables.
fn assert_same(x: &Var, layers: [&[Layer]; 2], ours: &Tensor, plain: &Tensor) {
    assert_close("result", ours, plain);
    let weight = Numbers(77).var(ours.dims()).as_tensor().detach();
    let store = |out: &Tensor| {
        let loss = (out * &weight).unwrap().sum_all().unwrap();
        loss.backward().unwrap()
    };
    let (ours, plain) = (store(ours), store(plain));
    let updates = layers.iter().flat_map(|layers| layers.iter());
    let updates = updates.filter_map(|layer| layer.update.as_ref());
    let vars = updates.flat_map(|(a, b, _)| [a, b]).chain([x]);
    for (index, var) in vars.enumerate() {
        let (got, want) = (ours.get(var).unwrap(), plain.get(var).unwrap());
        assert_close(&format!("gradient {index}"), got, want);
    }
}

/// What is special about a layer.
#[derive(Clone, Copy)]
struct Kind {
    bias: bool,
    qk_norms: bool,
    out_norm: bool,
    window: Option<usize>,
    softcap: Option<f32>,
    ranks: [usize; 4],
}

const PLAIN: Kind = Kind {
    bias: false,
    qk_norms: false,
    out_norm: false,
    window: None,
    softcap: None,
    ranks: [3, 2, 5, 4],
};

fn kinds() -> Vec<Kind> {
    vec![
        PLAIN,
        Kind {
            bias: true,
            ranks: [3, 0, 5, 0],
            ..PLAIN
        },
        Kind {
            qk_norms: true,
            out_norm: true,
            window: Some(4),
            softcap: Some(1.5),
            ranks: [0, 2, 0, 17],
            ..PLAIN
        },
        Kind {
            ranks: [0; 4],
            ..PLAIN
        },
    ]
}

const HIDDEN: usize = 22;
const SPANS: [usize; 3] = [5, 37, 1];

fn check_attention(kind: Kind) -> Result<()> {
    let (heads, kv_heads, dim) = (4, 2, 6);
    let tokens: usize = SPANS.iter().sum();
    let numbers = &mut Numbers(9);
    let x = numbers.var(&[tokens, HIDDEN]);
    let sizes = [heads, kv_heads, kv_heads].map(|heads| (heads * dim, HIDDEN));
    let inputs: Vec<Layer> = sizes
        .into_iter()
        .zip(kind.ranks)
        .map(|(sizes, rank)| Layer::new(numbers, sizes, kind.bias, rank))
        .collect();
    let output = [Layer::new(
        numbers,
        (HIDDEN, heads * dim),
        kind.bias,
        kind.ranks[3],
    )];
    let mut start = 0;
    let spans = SPANS.map(|len| {
        let span = SpanRange { start, len };
        start += len;
        span
    });
    let positions = spans.iter().flat_map(|span| 0..span.len as u32).collect();
    // four of six dimensions are rotated
    let table = Arc::new(RopeTable::new(&[1.0, 0.1], 64, 1.0));
    let place = Place {
        spans: Arc::from(spans),
        rotation: Some(Rotation { table, positions }),
    };
    let sublayer = Arc::new(AttentionSublayer {
        norm: numbers.norm(HIDDEN),
        inputs: projections(&inputs),
        qk_norms: kind
            .qk_norms
            .then(|| [numbers.norm(dim), numbers.norm(dim)]),
        shape: AttentionShape {
            heads,
            kv_heads,
            head_dim: dim,
            scale: 0.4,
            window: kind.window,
            softcap: kind.softcap,
        },
        output: projections(&output),
        out_norm: kind.out_norm.then(|| numbers.norm(HIDDEN)),
    });
    // twice, so that what goes from one to the other counts too
    let mut stack = Stack::new(&Arc::default());
    for _ in 0..2 {
        sublayer.push_onto(&mut stack, &place, low_ranks([&inputs, &output]))?;
    }
    let ours = stack.run(&x)?;

    let plain = |x: &Tensor| {
        let normed = plain_norm(&sublayer.norm, x)?;
        let mut projected = inputs.iter().map(|layer| {
            let y = layer.plain(&normed).unwrap();
            y.reshape((tokens, (), dim)).unwrap()
        });
        let [mut q, mut k, v] = [(); 3].map(|()| projected.next().unwrap());
        if let Some([q_norm, k_norm]) = &sublayer.qk_norms {
            (q, k) = (plain_norm(q_norm, &q)?, plain_norm(k_norm, &k)?);
        }
        if let Some(Rotation { table, positions }) = &place.rotation {
            (q, k) = (rope(&q, table, positions)?, rope(&k, table, positions)?);
        }
        let attended = causal_attention(&q, &k, &v, &place.spans, sublayer.shape)?;
        let mut branch = output[0].plain(&attended.flatten_from(1)?)?;
        if let Some(norm) = &sublayer.out_norm {
            branch = plain_norm(norm, &branch)?;
        }
        x + branch
    };
    let plain = plain(&plain(&x)?)?;
    assert_same(&x, [&inputs, &output], &ours, &plain);
    Ok(())
}

fn check_feed_forward(kind: Kind, activation: Activation) -> Result<()> {
    let (tokens, inner) = (43, 27);
    let numbers = &mut Numbers(5);
    let x = numbers.var(&[tokens, HIDDEN]);
    let inputs = [0, 1].map(|i| Layer::new(numbers, (inner, HIDDEN), kind.bias, kind.ranks[i]));
    let down = [Layer::new(
        numbers,
        (HIDDEN, inner),
        kind.bias,
        kind.ranks[3],
    )];
    let sublayer = Arc::new(FeedForwardSublayer {
        norm: numbers.norm(HIDDEN),
        gate_up: projections(&inputs),
        activation,
        down: projections(&down),
        out_norm: kind.out_norm.then(|| numbers.norm(HIDDEN)),
    });
    let mut stack = Stack::new(&Arc::default());
    for _ in 0..2 {
        sublayer.push_onto(&mut stack, low_ranks([&inputs, &down]))?;
    }
    let ours = stack.run(&x)?;

    let plain = |x: &Tensor| {
        let normed = plain_norm(&sublayer.norm, x)?;
        let (gate, up) = (inputs[0].plain(&normed)?, inputs[1].plain(&normed)?);
        let mut branch = down[0].plain(&gated(&gate, &up, activation)?)?;
        if let Some(norm) = &sublayer.out_norm {
            branch = plain_norm(norm, &branch)?;
        }
        x + branch
    };
    let plain = plain(&plain(&x)?)?;
    assert_same(&x, [&inputs, &down], &ours, &plain);
    Ok(())
}

#[test]
fn attention_equals_its_operations_one_after_another() {
    for kind in kinds() {
        check_attention(kind).unwrap();
    }
}

#[test]
fn feed_forward_equals_its_operations_one_after_another() {
    for activation in [Activation::Silu, Activation::GeluTanh, Activation::Gelu] {
        for kind in kinds() {
            check_feed_forward(kind, activation).unwrap();
        }
    }
}

fn small(numbers: &mut Numbers) -> impl Fn(&Tensor) -> Result<Tensor> + use<> {
    let inputs = [0, 1].map(|_| Layer::new(numbers, (8, HIDDEN), false, 2));
    let down = [Layer::new(numbers, (HIDDEN, 8), false, 2)];
    let sublayer = Arc::new(FeedForwardSublayer {
        norm: numbers.norm(HIDDEN),
        gate_up: projections(&inputs),
        activation: Activation::Silu,
        down: projections(&down),
        out_norm: None,
    });
    move |x| {
        let mut stack = Stack::new(&Arc::default());
        sublayer.push_onto(&mut stack, low_ranks([&inputs, &down]))?;
        stack.run(x)
    }
}

#[test]
fn a_constant_input_gets_no_gradient_and_a_second_way_back_the_same_one() {
    let numbers = &mut Numbers(3);
    let forward = small(numbers);
    let x = numbers.var(&[9, HIDDEN]);
    for (input, wanted) in [
        (x.as_tensor().detach(), false),
        (x.as_tensor().clone(), true),
    ] {
        let loss = forward(&input).unwrap().sqr().unwrap().sum_all().unwrap();
        let [first, second] = [(); 2].map(|()| loss.backward().unwrap());
        let [first, second] = [&first, &second].map(|store| store.get(&x).map(floats));
        assert_eq!(first.is_some(), wanted);
        assert_eq!(first, second);
    }
}

#[test]
fn rows_do_not_depend_on_their_batch() {
    let numbers = &mut Numbers(4);
    let forward = small(numbers);
    let x = numbers.var(&[200, HIDDEN]);
    let all = floats(&forward(&x).unwrap());
    for row in [0, 77, 199] {
        let alone = floats(&forward(&x.narrow(0, row, 1).unwrap()).unwrap());
        assert_eq!(alone, all[row * HIDDEN..(row + 1) * HIDDEN]);
    }
}

#[test]
fn an_empty_stack_passes_through_both_ways() {
    let x = Numbers(8).var(&[3, 4]);
    let out = Stack::new(&Arc::default()).run(&x).unwrap();
    assert_eq!(floats(&out), floats(&x));
    let store = out.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    let doubled: Vec<f32> = floats(&x).iter().map(|x| 2.0 * x).collect();
    assert_eq!(floats(store.get(&x).unwrap()), doubled);
}

#[test]
fn what_does_not_fit_is_refused() {
    let numbers = &mut Numbers(6);
    let wide = numbers.var(&[9, HIDDEN + 1]);
    let error = small(numbers)(&wide).unwrap_err();
    assert!(error.to_string().contains("rows of 23"), "{error}");
    let inputs = [0, 1].map(|_| Layer::new(numbers, (8, HIDDEN), false, 2));
    let down = [Layer::new(numbers, (HIDDEN, 8), false, 0)];
    let sublayer = Arc::new(FeedForwardSublayer {
        norm: numbers.norm(HIDDEN),
        gate_up: projections(&inputs),
        activation: Activation::Silu,
        down: projections(&down),
        out_norm: None,
    });
    let mut updates = low_ranks([&inputs, &down]);
    updates.tensors.pop();
    let mut stack = Stack::new(&Arc::default());
    let error = sublayer.push_onto(&mut stack, updates).unwrap_err();
    assert!(error.to_string().contains("numbers of updates"), "{error}");
}
