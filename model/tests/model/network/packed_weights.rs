//! Matrix products with packed weights are correct for any number of rows, and a row has the same bits in any
//! batch (law L8).
#![allow(non_snake_case)]

use demask_model::device::kernels::packed_weight::PackedWeight;
use tch::{Device, Kind, Tensor};

fn numbers(shape: &[i64], salt: f64) -> Tensor {
    let count = shape.iter().product::<i64>();
    let wave = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * (0.7 + salt)).sin();
    wave.reshape(shape).to_kind(Kind::Float)
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

/// Products are right to 1e-6 per input. The first and the last rows of any count have the bits of the same
/// rows in a product of 300 (L8).
#[test]
fn a_product_is_right_and_a_row_of_it_the_same_in_any_company() {
    for (ins, outs) in SHAPES {
        let weight_OI = numbers(&[outs, ins], 0.1);
        let bias_O = numbers(&[outs], 0.2);
        let Some(packed) = PackedWeight::new(&weight_OI).expect("a weight to pack") else {
            println!("skipped: this libtorch's matrix library packs nothing");
            return;
        };
        let x_TI = numbers(&[300, ins], 0.3);
        let double = |x: &Tensor| x.to_kind(Kind::Double);
        let exact_TO = double(&x_TI).linear(&double(&weight_OI), Some(&double(&bias_O)));
        let whole_TO = packed.linear(&x_TI, Some(&bias_O)).expect("a product");
        let worst = (&exact_TO - double(&whole_TO)).abs().max().double_value(&[]);
        assert!(worst < 1e-6 * ins as f64, "{ins} to {outs}: off by {worst}");
        // Odd widths, which no network has, may take another code path when there are few rows, so only even
        // widths are compared bit for bit.
        let even = ins % 8 == 0 && outs % 4 == 0;
        for count in (1..=67).chain([96, 128, 255]).filter(|_| even) {
            for first in [0, 300 - count] {
                let part = packed
                    .linear(&x_TI.narrow(0, first, count), Some(&bias_O))
                    .expect("a product");
                assert!(
                    part.equal(&whole_TO.narrow(0, first, count)),
                    "{count} rows of {ins} to {outs}: not the rows of 300"
                );
            }
        }
    }
}

#[test]
fn rows_of_another_width_are_refused() {
    let Some(packed) = PackedWeight::new(&numbers(&[64, 32], 0.0)).expect("a weight to pack") else {
        return;
    };
    assert!(packed.linear(&numbers(&[4, 320], 0.0), None).is_err());
    let none = packed
        .linear(&numbers(&[0, 32], 0.0), None)
        .expect("a product of no rows");
    assert_eq!(none.size(), [0, 64]);
}
