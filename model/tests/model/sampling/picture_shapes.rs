//! Images of any shape: the image tokenizer on grids that are not square, and batches that mix shapes.
#![allow(clippy::unwrap_used, missing_docs)]

use crate::common::{EOS, MASK};
use demask_api::{
    Answer, Grid, ImageSampler, ImageTokenizerConfig, Picture, PictureSize, QuantizerLosses, SampleFrame,
    SampleRequest, Sampler, Span, StackConfig,
};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::engine::sample_requests::RunningRequests;
use demask_model::image_tokenizer::{ImageTokenizer, TokenizerTrainer, to_pictures, to_tensor};
use demask_model::sampler::Limits;
use tch::{Device, Tensor};

/// Returns a small tokenizer of MAGVIT-v2's shape: five levels, so that a code covers 16 x 16 pixels, and
/// four bits per code.
fn magvit() -> ImageTokenizer {
    let stack = StackConfig {
        ch: 4,
        ch_mult: vec![1, 1, 2, 2, 2],
        num_res_blocks: vec![1; 5],
        in_ch: 3,
        out_ch: 3,
        resolution: 32,
        z_channels: 4,
    };
    let config = ImageTokenizerConfig {
        encoder: stack.clone(),
        decoder: stack,
        codebook_bits: 4,
        norm_groups: 2,
        losses: QuantizerLosses::default(),
    };
    ImageTokenizer::fresh(&config, 5, Device::Cpu).unwrap()
}

fn picture(width: usize, height: usize, seed: usize) -> Picture {
    let mut picture = Picture::filled(width, height, [0; 3]);
    for at in 0..width * height {
        let (x, y) = (at % width, at / width);
        let byte = |value: usize| (value % 256) as u8;
        let colour = [
            byte(x * 5 + seed),
            byte(y * 9 + seed * 40),
            byte(x * y / 7 + seed * 90),
        ];
        picture.set(x, y, colour);
    }
    picture
}

/// Converts codes in row-major order to signs `[1, bits, rows, columns]`, one value at a time.
fn signs(codes: &[u32], grid: Grid, bits: usize) -> Tensor {
    let mut values = vec![0f32; bits * codes.len()];
    for (at, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let set = code >> (bits - 1 - bit) & 1 == 1;
            values[bit * codes.len() + at] = if set { 1.0 } else { -1.0 };
        }
    }
    let shape = [1, bits as i64, grid.rows as i64, grid.columns as i64];
    Tensor::from_slice(&values).view(shape)
}

/// On grids that are not square, codes are ordered by rows, both when encoding and when decoding.
#[test]
fn a_grid_is_decoded_as_the_network_decodes_it_row_by_row() {
    let tokenizer = magvit();
    for (width, height) in [(64, 32), (32, 64), (48, 16)] {
        let grid = Grid {
            rows: height / 16,
            columns: width / 16,
        };
        let asked = picture(width, height, 3);
        let codes = tokenizer.encode(std::slice::from_ref(&asked)).unwrap();
        assert_eq!(codes[0].len(), grid.codes());
        // A code consists of the signs of the latents at its row and column.
        let latents = tch::no_grad(|| tokenizer.latents(&to_tensor(&[asked], Device::Cpu).unwrap())).unwrap();
        for (at, &code) in codes[0].iter().enumerate() {
            let (row, column) = ((at / grid.columns) as i64, (at % grid.columns) as i64);
            let expected = (0..4).fold(0, |code, bit| {
                code * 2 + u32::from(latents.double_value(&[0, bit, row, column]) > 0.0)
            });
            assert_eq!(code, expected, "{row}, {column} of {grid}");
        }
        let decoded = tokenizer.decode(&codes, Some(grid)).unwrap();
        assert_eq!(decoded[0].size(), PictureSize { width, height });
        // A single row is decoded in a batch of two.
        let signs = signs(&codes[0], grid, 4);
        let pixels = tch::no_grad(|| tokenizer.pixels(&Tensor::cat(&[&signs, &signs], 0))).unwrap();
        assert_eq!(decoded, to_pictures(&pixels).unwrap()[..1]);
    }
}

/// libtorch takes another convolution for a batch of one, which rounds otherwise on some processors.
#[test]
fn l8_a_picture_is_encoded_and_decoded_alike_alone_and_in_any_company() {
    let tokenizer = magvit();
    let pictures: Vec<Picture> = (0..7).map(|seed| picture(32, 32, seed)).collect();
    let codes = tokenizer.encode(&pictures).unwrap();
    let decoded = tokenizer.decode(&codes, None).unwrap();
    for size in 1..7 {
        let apart = pictures
            .chunks(size)
            .flat_map(|some| tokenizer.encode(some).unwrap());
        assert_eq!(apart.collect::<Vec<_>>(), codes, "{size} at a time");
        let apart = codes
            .chunks(size)
            .flat_map(|some| tokenizer.decode(some, None).unwrap());
        assert_eq!(apart.collect::<Vec<_>>(), decoded, "{size} at a time");
    }
}

/// Without a grid, codes form a square. Codes that fit neither a square nor the given grid are refused.
#[test]
fn without_a_grid_it_is_square_and_another_number_of_codes_is_refused() {
    let tokenizer = magvit();
    let square = Grid { rows: 2, columns: 2 };
    let codes = [vec![1, 2, 3, 4]];
    assert_eq!(
        tokenizer.decode(&codes, None).unwrap(),
        tokenizer.decode(&codes, Some(square)).unwrap()
    );
    let wide = Grid { rows: 1, columns: 4 };
    assert_ne!(
        tokenizer.decode(&codes, None).unwrap(),
        tokenizer.decode(&codes, Some(wide)).unwrap()
    );
    let refused = |codes: &[u32], grid| {
        let error = tokenizer.decode(&[codes.to_vec()], grid).unwrap_err();
        error.to_string()
    };
    assert!(refused(&[1, 2, 3], None).contains("3 picture codes do not form a square"));
    let message = refused(&[1, 2, 3], Some(wide));
    assert!(
        message.contains("found 3 picture codes, but the grid 1 row of 4 has 4"),
        "{message}"
    );
    let none = tokenizer.encode(&[Picture::filled(16, 0, [0; 3])]).unwrap_err();
    assert!(none.to_string().contains("multiples of 16"), "{none}");
}

#[test]
fn pictures_of_several_sizes_are_encoded_together_as_each_alone() {
    let tokenizer = magvit();
    let sizes = [(64, 32), (32, 32), (32, 64), (64, 32)];
    let pictures: Vec<Picture> = sizes
        .iter()
        .enumerate()
        .map(|(at, &(width, height))| picture(width, height, at))
        .collect();
    let together = tokenizer.encode(&pictures).unwrap();
    for (one, codes) in pictures.iter().zip(&together) {
        assert_eq!(&tokenizer.encode(std::slice::from_ref(one)).unwrap()[0], codes);
    }
    assert_ne!(together[0], together[3]);
}

/// Returns a watched request for an image of the given rows and columns.
fn drawing(id: u64, codes: usize, grid: Option<(usize, usize)>) -> SampleRequest {
    let prompt = (0..4).map(|at| (at + id as u32) % 10);
    SampleRequest {
        id,
        ids: prompt.chain(std::iter::repeat_n(MASK, codes)).collect(),
        left_pad: 0,
        target: Span {
            start: 4,
            end: 4 + codes,
        },
        sampler: Sampler::Image(ImageSampler {
            steps: 3,
            ..ImageSampler::default()
        }),
        grid: grid.map(|(rows, columns)| Grid { rows, columns }),
        unconditional: Some([vec![EOS; 4], vec![MASK; codes]].concat()),
        unconditional_left_pad: 0,
        seed: 7 + id,
        watch: true,
    }
}

/// Runs the requests together and returns their images and frames.
fn drawn(model: &LoadedModel, requests: Vec<Vec<SampleRequest>>) -> (Vec<Picture>, Vec<SampleFrame>) {
    let mut sampling = RunningRequests::new(model, Limits::default());
    for (number, requests) in requests.into_iter().enumerate() {
        sampling.join(number, requests).unwrap();
    }
    let (mut answers, mut frames) = (Vec::new(), Vec::new());
    while !sampling.is_empty() {
        answers.extend(sampling.step(&mut |_, frame| frames.push(frame)).unwrap());
    }
    answers.sort_by_key(|(number, _)| *number);
    let pictures = answers.into_iter().flat_map(|(_, answer)| match answer {
        Answer::Samples { samples, .. } => samples.into_iter().map(|sample| sample.picture.unwrap()),
        other => panic!("{other:?}"),
    });
    (pictures.collect(), frames)
}

/// Images with equally many codes and different shapes in one batch are each decoded in their own shape, as
/// alone, and so are their frames.
#[test]
fn as_many_codes_in_other_shapes_are_decoded_each_in_its_own() {
    let (backbone, optimizer) = crate::common::learner(3);
    let tokenizer = ImageTokenizer::fresh(&crate::common::tokenizer_config(), 1, Device::Cpu).unwrap();
    let trainer = TokenizerTrainer::new(&tokenizer).unwrap();
    let model = LoadedModel {
        backbone,
        optimizer,
        tokenizer: Some((tokenizer, trainer)),
    };
    // Every image but one has sixteen codes; two requests share one batch.
    let requests = vec![
        vec![
            drawing(1, 16, Some((2, 8))),
            drawing(2, 16, None),
            drawing(3, 16, Some((8, 2))),
            drawing(4, 6, Some((2, 3))),
        ],
        vec![drawing(5, 16, Some((4, 4))), drawing(6, 16, Some((2, 8)))],
    ];
    let sizes = [(16, 4), (8, 8), (4, 16), (6, 4), (8, 8), (16, 4)];
    let (together, frames) = drawn(&model, requests.clone());
    let found: Vec<(usize, usize)> = together.iter().map(|one| (one.width, one.height)).collect();
    assert_eq!(found, sizes);
    let alone: Vec<Picture> = requests
        .into_iter()
        .flatten()
        .flat_map(|one| drawn(&model, vec![vec![one]]).0)
        .collect();
    assert_eq!(together, alone);
    assert!(frames.len() >= 6);
    for frame in frames {
        let guess = frame.picture.unwrap();
        assert_eq!((guess.width, guess.height), sizes[frame.id as usize - 1]);
        let grid = Grid::under(guess.size(), frame.tokens.len()).unwrap();
        assert_eq!((2 * grid.columns, 2 * grid.rows), (guess.width, guess.height));
    }
}

#[test]
fn a_grid_is_read_off_a_picture_and_its_codes() {
    let size = |width, height| PictureSize { width, height };
    let grid = |rows, columns| Some(Grid { rows, columns });
    assert_eq!(Grid::under(size(768, 512), 1536), grid(32, 48));
    assert_eq!(Grid::under(size(512, 768), 1536), grid(48, 32));
    assert_eq!(Grid::under(size(32, 32), 64), grid(8, 8));
    for (width, height, codes) in [
        (768, 512, 1535),
        (0, 512, 4),
        (8, 8, 0),
        (8, 8, 65),
        (10, 6, 15 * 2),
    ] {
        assert_eq!(Grid::under(size(width, height), codes), None);
    }
    assert_eq!(Grid::square(16), grid(4, 4));
    assert_eq!((Grid::square(15), Grid::square(0)), (None, None));
}
