//! A picture through a JPEG file and back, as a harness that keeps its pictures so shows them to a model: quality 75 and colours at half
//! of each side, the mean of four pixels, which is Pillow's default.

use image::{ImageFormat, RgbImage};
use jpeg_encoder::{Encoder, ImageBuffer, JpegColorType, SamplingFactor};

/// Pillow's default.
const QUALITY: u8 = 75;

/// The picture after it was written and read.
///
/// # Errors
/// In words: sides that JPEG has not.
pub fn round_trip(image: &RgbImage) -> Result<RgbImage, String> {
    let (width, height) = image.dimensions();
    let (Ok(across), Ok(down)) = (u16::try_from(width), u16::try_from(height)) else {
        return Err(format!(
            "a picture of {width} x {height}; JPEG has at most 65535 a side"
        ));
    };
    if width == 0 || height == 0 {
        return Err("a picture without pixels".to_owned());
    }
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder
        .encode_image(Halved { image, across, down })
        .map_err(|error| error.to_string())?;
    let read = image::load_from_memory_with_format(&bytes, ImageFormat::Jpeg);
    Ok(read.map_err(|error| error.to_string())?.to_rgb8())
}

/// A picture whose blocks of four pixels have one colour each: the encoder takes one pixel of four.
struct Halved<'a> {
    image: &'a RgbImage,
    across: u16,
    down: u16,
}

impl Halved<'_> {
    /// Both colour differences of a pixel (JFIF 1.02, in 65536ths); beyond the edge those of the edge.
    fn colour(&self, x: u32, y: u32) -> [i32; 2] {
        let (x, y) = (x.min(self.image.width() - 1), y.min(self.image.height() - 1));
        let [red, green, blue] = self.image.get_pixel(x, y).0.map(i32::from);
        let middle = (128 << 16) + (1 << 15) - 1;
        [
            (-11_059 * red - 21_709 * green + 32_768 * blue + middle) >> 16,
            (32_768 * red - 27_439 * green - 5_329 * blue + middle) >> 16,
        ]
    }

    /// Their means over the block of four that a pixel is in, rounded down and up in turn as libjpeg does.
    fn block(&self, x: u32, y: u32) -> [i32; 2] {
        let (left, top) = (x / 2 * 2, y / 2 * 2);
        let mut sums = if left / 2 % 2 == 0 { [1; 2] } else { [2; 2] };
        for (x, y) in [(left, top), (left + 1, top), (left, top + 1), (left + 1, top + 1)] {
            let colour = self.colour(x, y);
            sums.iter_mut().zip(colour).for_each(|(sum, one)| *sum += one);
        }
        sums.map(|sum| sum >> 2)
    }
}

impl ImageBuffer for Halved<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.across
    }

    fn height(&self) -> u16 {
        self.down
    }

    fn fill_buffers(&self, y: u16, buffers: &mut [Vec<u8>; 4]) {
        let byte = |value: i32| u8::try_from(value.clamp(0, 255)).unwrap_or(u8::MAX);
        let y = u32::from(y);
        for x in 0..self.image.width() {
            let [red, green, blue] = self.image.get_pixel(x, y).0.map(i32::from);
            buffers[0].push(byte(
                (19_595 * red + 38_470 * green + 7_471 * blue + (1 << 15)) >> 16,
            ));
            let [blue_difference, red_difference] = self.block(x, y);
            buffers[1].push(byte(blue_difference));
            buffers[2].push(byte(red_difference));
        }
    }
}
