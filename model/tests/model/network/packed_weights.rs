//! Matrix products with packed weights are correct for any number of rows, and a row has the same bits in any
//! batch (law L8).
#![allow(non_snake_case)]

use demask_model::device::kernels::packed_weight::PackedWeight;
use tch::{Device, Kind, Tensor};

fn numbers(shape: &[i64], salt: f64, kind: Kind) -> Tensor {
    let count = shape.iter().product::<i64>();
    let wave = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * (0.7 + salt)).sin();
    wave.reshape(shape).to_kind(kind)
}

/// Input and output widths of the shipped model, of a larger one, and odd ones.
const SHAPES: [(i64, i64); 7] = [
    (192, 576),
    (512, 192),
    (192, 2100),
    (512, 1536),
    (1408, 512),
    (33, 7),
    (1, 1),
];

/// Products are right to 1e-6 per input, and to the rounding of the result and of the sum with a bias. The first and
/// the last rows of any count have the bits of the same rows in a product of 300 (L8).
#[test]
fn a_product_is_right_and_a_row_of_it_the_same_in_any_company() {
    for (kind, rounding) in [(Kind::Float, 0.0), (Kind::BFloat16, 1.0 / 256.0)] {
        for shape in SHAPES {
            let Some(packed) =
                PackedWeight::new(&numbers(&[shape.1, shape.0], 0.1, kind)).expect("a weight to pack")
            else {
                println!("skipped: nothing packs {kind:?} here");
                break;
            };
            check(&packed, shape, kind, rounding);
        }
    }
}

fn check(packed: &PackedWeight, (ins, outs): (i64, i64), kind: Kind, rounding: f64) {
    let weight_OI = numbers(&[outs, ins], 0.1, kind);
    let bias_O = numbers(&[outs], 0.2, kind);
    let x_TI = numbers(&[300, ins], 0.3, kind);
    let double = |x: &Tensor| x.to_kind(Kind::Double);
    let product_TO = double(&x_TI).linear::<Tensor>(&double(&weight_OI), None);
    let exact_TO = &product_TO + double(&bias_O);
    let whole_TO = packed.linear(&x_TI, Some(&bias_O)).expect("a product");
    assert_eq!((whole_TO.kind(), whole_TO.size()), (kind, vec![300, outs]));
    let allowed_TO = (product_TO.abs() + exact_TO.abs()) * rounding + 1e-6 * ins as f64;
    let over = ((&exact_TO - double(&whole_TO)).abs() - allowed_TO)
        .max()
        .double_value(&[]);
    assert!(
        over < 0.0,
        "{kind:?}, {ins} to {outs}: off by {over} more than allowed"
    );
    for count in (1..=67).chain([96, 128, 255]) {
        for first in [0, 300 - count] {
            let part = packed
                .linear(&x_TI.narrow(0, first, count), Some(&bias_O))
                .expect("a product");
            assert!(
                part.equal(&whole_TO.narrow(0, first, count)),
                "{kind:?}, {count} rows of {ins} to {outs}: not the rows of 300"
            );
        }
    }
}

#[test]
fn rows_of_another_width_or_dtype_are_refused() {
    for (kind, other) in [(Kind::Float, Kind::BFloat16), (Kind::BFloat16, Kind::Float)] {
        let Some(packed) = PackedWeight::new(&numbers(&[64, 32], 0.0, kind)).expect("a weight to pack")
        else {
            continue;
        };
        assert!(packed.linear(&numbers(&[4, 320], 0.0, kind), None).is_err());
        assert!(packed.linear(&numbers(&[4, 32], 0.0, other), None).is_err());
        let none = packed
            .linear(&numbers(&[0, 32], 0.0, kind), None)
            .expect("a product of no rows");
        assert_eq!(none.size(), [0, 64]);
    }
}
