//! Tables as pictures.

use std::error::Error;
use std::path::Path;

use plotters::prelude::*;

const COLUMNS: usize = 2;
const PANEL_WIDTH: u32 = 480;
const PANEL_HEIGHT: u32 = 240;
/// Room above the highest value.
const HEADROOM: f64 = 1.15;

/// What one series shows: how much there is, and what it costs.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Writes an SVG with all panels: how much there is by its logarithm, none of it standing at 1, and the cost from 0 on.
pub(crate) fn draw(path: &Path, panels: &[Panel]) -> Result<(), Box<dyn Error>> {
    let rows = panels.len().div_ceil(COLUMNS);
    let size = (PANEL_WIDTH * COLUMNS as u32, PANEL_HEIGHT * rows as u32);
    let picture = SVGBackend::new(path, size).into_drawing_area();
    picture.fill(&WHITE)?;
    for (area, panel) in picture.split_evenly((rows, COLUMNS)).iter().zip(panels) {
        let points = || panel.points.iter().map(|&(much, cost)| (much.max(1.0), cost));
        let most = points().fold(10.0, |most, (much, _)| f64::max(most, much));
        let highest = points().fold(1.0, |highest, (_, cost)| f64::max(highest, cost));
        let mut chart = ChartBuilder::on(area)
            .caption(&panel.title, ("sans-serif", 13))
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(40)
            .build_cartesian_2d((1.0..most).log_scale(), 0.0..highest * HEADROOM)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|much| format!("{much}"))
            .y_labels(5)
            .draw()?;
        chart.draw_series(LineSeries::new(points(), &BLUE))?;
        chart.draw_series(points().map(|point| Circle::new(point, 3, BLUE.filled())))?;
    }
    picture.present()?;
    Ok(())
}
