//! Where the parts of the screen stand. `update` and `view` agree through this.

use ratatui::layout::Rect;

/// From this width on, the preview stands beside the timeline: a list needs about 90 cells, statements as many.
const BESIDE_FROM_WIDTH: u16 = 180;
/// From so many rows between header and footer on, the preview stands below the timeline.
const BELOW_FROM_ROWS: u16 = 28;
/// Narrower than this, there is no preview.
const BELOW_FROM_WIDTH: u16 = 60;

/// The parts of a screen; parts for which there is no room are empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Regions {
    /// Name of the trace, counts, path of screens.
    pub(crate) header: Rect,
    /// The line under the header.
    pub(crate) rule: Rect,
    /// The timeline's list or the page.
    pub(crate) body: Rect,
    /// The preview beside or below the list, its border included.
    pub(crate) preview: Rect,
    /// Status line.
    pub(crate) status: Rect,
    /// The main keys.
    pub(crate) hints: Rect,
}

impl Regions {
    /// The parts of a terminal of this size.
    pub(crate) fn of(width: u16, height: u16) -> Self {
        let mut top = 0;
        let mut bottom = height;
        let mut take_top = |wanted: bool| {
            let rows = u16::from(wanted);
            top += rows;
            Rect::new(0, top - rows, width, rows)
        };
        let header = take_top(height >= 3);
        let rule = take_top(height >= 12);
        let mut take_bottom = |wanted: bool| {
            let rows = u16::from(wanted);
            bottom -= rows;
            Rect::new(0, bottom, width, rows)
        };
        let hints = take_bottom(height >= 8);
        let status = take_bottom(height >= 2);
        let middle = Rect::new(0, top, width, bottom - top);
        let (body, preview) = split(middle);
        Regions { header, rule, body, preview, status, hints }
    }

    /// The whole middle: where pages are shown.
    pub(crate) fn page(&self) -> Rect {
        self.body.union(self.preview)
    }

    /// Rows of requests that the timeline shows: its column titles take one line.
    pub(crate) fn list_rows(&self) -> usize {
        usize::from(self.body.height.saturating_sub(u16::from(self.has_titles())))
    }

    /// Whether there is room for the timeline's column titles.
    pub(crate) fn has_titles(&self) -> bool {
        self.body.height >= 3
    }
}

/// The list and its preview.
fn split(middle: Rect) -> (Rect, Rect) {
    if middle.width >= BESIDE_FROM_WIDTH && middle.height >= 8 {
        let list = middle.width / 2;
        return (Rect { width: list, ..middle }, Rect { x: list, width: middle.width - list, ..middle });
    }
    if middle.width >= BELOW_FROM_WIDTH && middle.height >= BELOW_FROM_ROWS {
        let list = middle.height - middle.height * 2 / 5;
        let below = Rect { y: middle.y + list, height: middle.height - list, ..middle };
        return (Rect { height: list, ..middle }, below);
    }
    (middle, Rect { x: middle.right(), y: middle.y, width: 0, height: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_never_overlap_and_fill_the_height() {
        for width in [0, 1, 2, 40, 80, 120, 180, 400] {
            for height in 0..60 {
                let regions = Regions::of(width, height);
                let page = regions.page();
                let rows = [regions.header, regions.rule, page, regions.status, regions.hints];
                assert_eq!(rows.iter().map(|part| part.height).sum::<u16>(), height, "{width}×{height}");
                assert_eq!(page.width, width);
                assert_eq!(page.area(), regions.body.area() + regions.preview.area());
                for pair in rows.windows(2) {
                    assert!(pair[0].bottom() <= pair[1].top() || pair[1].height == 0, "{width}×{height}");
                }
            }
        }
    }
}
