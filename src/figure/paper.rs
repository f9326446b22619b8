//! Charts drawn with plotters, one below the other, as SVG text or as a PNG with the program's own font.

use std::io::Cursor;
use std::sync::OnceLock;

use anyhow::{Context as _, anyhow};
use demask_api::{PictureSize, limits};
use demask_tui::chart::draw::{colour, said};
use demask_tui::chart::{Chart, Series};
use plotters::backend::DrawingBackend;
use plotters::coord::Shift;
use plotters::element::{PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{
    BitMapBackend, Color as _, DrawingArea, IntoDrawingArea as _, RGBColor, SVGBackend, ShapeStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, IntoFont as _, TextStyle, register_font};

use super::plot_area::{PlotArea, thinned};

/// Name of the font; in an SVG, the viewer's own sans-serif font is used.
const FONT: &str = "sans-serif";
/// Heights of a title and of a number in pixels, and the margins around a chart.
const TITLE: i32 = 20;
const SMALL: i32 = 16;
const MARGINS: [i32; 3] = [72, 18, 48];
const LINE: i32 = 20;
/// Least distance between two numbers of an axis, in columns and rows of pixels.
const APART: (i32, i32) = (95, 42);
const DARK: RGBColor = RGBColor(45, 45, 45);
const GRID: RGBColor = RGBColor(225, 225, 225);

type Area<'a, B> = DrawingArea<B, Shift>;

/// Draws the charts as an SVG document.
///
/// # Errors
/// Any error of plotters.
pub fn svg(charts: &[Chart], size: PictureSize) -> anyhow::Result<String> {
    ready()?;
    let mut text = String::new();
    let whole = whole(charts, size)?;
    all(
        &SVGBackend::with_string(&mut text, whole).into_drawing_area(),
        charts,
    )?;
    Ok(text)
}

/// Draws the charts as a PNG file and returns its bytes.
///
/// # Errors
/// As [`svg`].
pub fn png(charts: &[Chart], size: PictureSize) -> anyhow::Result<Vec<u8>> {
    ready()?;
    let (width, height) = whole(charts, size)?;
    let mut rgb = vec![255; width as usize * height as usize * 3];
    all(
        &BitMapBackend::with_buffer(&mut rgb, (width, height)).into_drawing_area(),
        charts,
    )?;
    let picture = image::RgbImage::from_raw(width, height, rgb).context("the picture has the wrong size")?;
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Registers the font once. Its letters measure texts in both formats.
fn ready() -> anyhow::Result<()> {
    static READY: OnceLock<bool> = OnceLock::new();
    let known = || register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok();
    match READY.get_or_init(known) {
        true => Ok(()),
        false => Err(anyhow!("the font of charts cannot be read")),
    }
}

/// Returns the size in pixels of all charts, one below the other.
fn whole(charts: &[Chart], size: PictureSize) -> anyhow::Result<(u32, u32)> {
    let height = size
        .height
        .checked_mul(charts.len().max(1))
        .context("--size: it is too large")?;
    let side = |side: usize| u32::try_from(side).ok().filter(|side| *side <= 32_768);
    let sides = side(size.width).zip(side(height));
    let sides =
        sides.filter(|(width, height)| u64::from(*width) * u64::from(*height) <= limits::MOST_WRITTEN_PIXELS);
    sides.with_context(|| {
        format!(
            "--size: the chart would have {} x {height} pixels, expected at most 32768 a side and {} in all",
            size.width,
            limits::MOST_WRITTEN_PIXELS
        )
    })
}

fn all<B: DrawingBackend>(root: &Area<'_, B>, charts: &[Chart]) -> anyhow::Result<()> {
    root.fill(&WHITE).map_err(told)?;
    for (area, chart) in root.split_evenly((charts.len().max(1), 1)).iter().zip(charts) {
        one(area, chart)?;
    }
    root.present().map_err(told)
}

fn told(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the chart could not be drawn: {error}")
}

fn one<B: DrawingBackend>(area: &Area<'_, B>, chart: &Chart) -> anyhow::Result<()> {
    let (width, height) = area.dim_in_pixel();
    let (width, height) = (i32::try_from(width)?, i32::try_from(height)?);
    let [left, right, below] = MARGINS;
    let legend = legend(area, chart, left, width - right)?;
    let place = PlotArea {
        left,
        top: legend,
        right: width - right,
        bottom: height - below,
    };
    if place.right - place.left < 40 || place.bottom - place.top < 30 {
        return Err(anyhow!(
            "--size: a chart of {width} x {height} pixels has no room for lines"
        ));
    }
    axes(area, chart, place)?;
    turned(area, chart, place)?;
    for (number, series) in chart.series.iter().enumerate() {
        lines(area, chart, series, number, place)?;
    }
    let frame = Rectangle::new([(place.left, place.top), (place.right, place.bottom)], thin(DARK));
    area.draw(&frame).map_err(told)
}

fn thin(colour: RGBColor) -> ShapeStyle {
    ShapeStyle::from(&colour).stroke_width(1)
}

fn words(size: i32, colour: RGBColor, h: HPos, v: VPos) -> TextStyle<'static> {
    (FONT, size).into_font().color(&colour).pos(Pos::new(h, v))
}

fn text<B: DrawingBackend>(
    area: &Area<'_, B>,
    said: &str,
    at: (i32, i32),
    style: TextStyle<'_>,
) -> anyhow::Result<()> {
    area.draw(&Text::new(said.to_owned(), at, style)).map_err(told)
}

/// Draws the title and, below it, the names of the lines. Returns the row where the plot begins.
fn legend<B: DrawingBackend>(
    area: &Area<'_, B>,
    chart: &Chart,
    left: i32,
    right: i32,
) -> anyhow::Result<i32> {
    text(
        area,
        &chart.title,
        (left, 10),
        words(TITLE, DARK, HPos::Left, VPos::Top),
    )?;
    let (mut x, mut y) = (left, 10 + LINE);
    let style = words(SMALL, DARK, HPos::Left, VPos::Center);
    for (number, series) in chart.series.iter().enumerate() {
        let last = series.points.last().map_or(0.0, |point| point.1);
        let name = format!("{} {}", series.name, said(last)).trim().to_owned();
        let (wide, _) = area.estimate_text_size(&name, &style).map_err(told)?;
        let wide = i32::try_from(wide)? + 44;
        if x + wide > right && x > left {
            (x, y) = (left, y + LINE);
        }
        let mark = PathElement::new([(x, y + 8), (x + 20, y + 8)], line(number).stroke_width(3));
        area.draw(&mark).map_err(told)?;
        text(area, &name, (x + 26, y + 8), style.clone())?;
        x += wide;
    }
    Ok(y + LINE + 4)
}

fn line(number: usize) -> ShapeStyle {
    let (red, green, blue) = colour(number);
    ShapeStyle::from(&RGBColor(red, green, blue)).stroke_width(2)
}

fn axes<B: DrawingBackend>(area: &Area<'_, B>, chart: &Chart, place: PlotArea) -> anyhow::Result<()> {
    let most = |way: i32, apart: i32| usize::try_from(way / apart).unwrap_or(2).max(2);
    for (value, said) in chart.y.ticks(most(place.bottom - place.top, APART.1)) {
        let Some(share) = chart.y.place(value) else {
            continue;
        };
        let y = place.y(share);
        area.draw(&PathElement::new([(place.left, y), (place.right, y)], thin(GRID)))
            .map_err(told)?;
        text(
            area,
            &said,
            (place.left - 8, y),
            words(SMALL, DARK, HPos::Right, VPos::Center),
        )?;
    }
    for (value, said) in chart.x.ticks(most(place.right - place.left, APART.0)) {
        let Some(share) = chart.x.place(value) else {
            continue;
        };
        let x = place.x(share);
        area.draw(&PathElement::new([(x, place.top), (x, place.bottom)], thin(GRID)))
            .map_err(told)?;
        text(
            area,
            &said,
            (x, place.bottom + 6),
            words(SMALL, DARK, HPos::Center, VPos::Top),
        )?;
    }
    let middle = i32::midpoint(place.left, place.right);
    text(
        area,
        &chart.across,
        (middle, place.bottom + 25),
        words(SMALL, DARK, HPos::Center, VPos::Top),
    )
}

/// Draws a dashed line with its label where a knob was turned. The labels of neighbouring lines stand below each other.
fn turned<B: DrawingBackend>(area: &Area<'_, B>, chart: &Chart, place: PlotArea) -> anyhow::Result<()> {
    const DASH: i32 = 5;
    for (number, (at, said)) in chart.turns.iter().enumerate() {
        let Some(share) = chart.x.place(*at) else { continue };
        let x = place.x(share);
        for y in (place.top..place.bottom).step_by(2 * DASH as usize) {
            let dash = [(x, y), (x, (y + DASH).min(place.bottom))];
            area.draw(&PathElement::new(dash, thin(RGBColor(120, 120, 120))))
                .map_err(told)?;
        }
        let rows = ((place.bottom - place.top) / 16).max(1);
        let row = place.top + 3 + 16 * (i32::try_from(number).unwrap_or(0) % rows);
        let side = if share > 0.8 {
            (HPos::Right, -4)
        } else {
            (HPos::Left, 4)
        };
        text(
            area,
            said,
            (x + side.1, row),
            words(SMALL - 1, DARK, side.0, VPos::Top),
        )?;
    }
    Ok(())
}

fn lines<B: DrawingBackend>(
    area: &Area<'_, B>,
    chart: &Chart,
    series: &Series,
    number: usize,
    place: PlotArea,
) -> anyhow::Result<()> {
    let (red, green, blue) = colour(number);
    let faint = ShapeStyle::from(&RGBColor(red, green, blue).mix(0.25)).stroke_width(1);
    band(area, chart, series, RGBColor(red, green, blue), place)?;
    for (points, style) in [(&series.behind, faint), (&series.points, line(number))] {
        let at = |&(x, y): &(f64, f64)| Some((place.x(chart.x.place(x)?), place.y(chart.y.place(y)?)));
        let drawn = thinned(points.iter().filter_map(at));
        if let [alone] = drawn.as_slice() {
            let (x, y) = *alone;
            let dot = Rectangle::new([(x - 2, y - 2), (x + 2, y + 2)], style.filled());
            area.draw(&dot).map_err(told)?;
            continue;
        }
        area.draw(&PathElement::new(drawn, style)).map_err(told)?;
    }
    Ok(())
}

/// Draws the interval around a line; for a single point, a vertical stroke.
fn band<B: DrawingBackend>(
    area: &Area<'_, B>,
    chart: &Chart,
    series: &Series,
    colour: RGBColor,
    place: PlotArea,
) -> anyhow::Result<()> {
    let at = |x: f64, y: f64| Some((place.x(chart.x.place(x)?), place.y(chart.y.place(y)?)));
    let ends = |&(x, low, high): &(f64, f64, f64)| Some((at(x, low)?, at(x, high)?));
    let ends: Vec<((i32, i32), (i32, i32))> = series.band.iter().filter_map(ends).collect();
    if let [(low, high)] = ends.as_slice() {
        let stroke = PathElement::new([*low, *high], ShapeStyle::from(&colour).stroke_width(2));
        return area.draw(&stroke).map_err(told);
    }
    let above = ends.iter().map(|(_, high)| *high);
    let below = ends.iter().rev().map(|(low, _)| *low);
    let around: Vec<(i32, i32)> = above.chain(below).collect();
    if around.is_empty() {
        return Ok(());
    }
    area.draw(&Polygon::new(around, colour.mix(0.15).filled()))
        .map_err(told)
}
