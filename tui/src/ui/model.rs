//! Everything the UI knows: one value, changed only by `update`.

pub(crate) mod page;
pub(crate) mod prompt;
pub(crate) mod timeline;

#[cfg(test)]
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::page::Page;
use self::prompt::Prompt;
use self::timeline::Timeline;
use super::layout::Regions;
use super::message::{Command, LayerId, Overview, Query, Slot, Ticket};
use super::theme::Role;

/// The layer that speaks for the whole UI and holds the timeline.
pub(crate) const ROOT: LayerId = LayerId(0);

/// Screens opened on top of each other are bounded; the oldest between the timeline and the top is closed.
const MAX_LAYERS: usize = 64;

/// A screen or overlay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Layer {
    /// The list of requests; always the lowest, and only there.
    Timeline(Timeline),
    /// A page about one thing.
    Page(Page),
    /// A line of input over the screen below; always the top.
    Prompt(Prompt),
    /// The keys of the screen below; always the top.
    Help {
        /// Lines scrolled past.
        top: usize,
    },
}

/// A message to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Text.
    pub(crate) text: String,
    /// Good, caution or bad.
    pub(crate) role: Role,
}

/// The state of the UI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    /// The trace's name.
    pub(crate) trace: String,
    /// Columns and rows of the terminal.
    pub(crate) size: (u16, u16),
    /// Facts about the trace, once they are known.
    pub(crate) overview: Option<Overview>,
    /// Screens and overlays from the bottom to the top; never empty, the timeline first.
    pub(crate) stack: Vec<Layer>,
    /// What there is to tell until the next key.
    pub(crate) status: Option<Status>,
    /// Whether the user left.
    pub(crate) quitting: bool,
    /// The newest query of each layer and slot that has no answer yet.
    pending: Vec<(LayerId, Slot, u64)>,
    /// Number of the next layer.
    next_layer: u64,
    /// Number of the last query.
    generation: u64,
}

impl Model {
    /// An empty timeline of a trace with this name.
    pub(crate) fn new(trace: impl Into<String>, size: (u16, u16)) -> Self {
        Model {
            trace: trace.into(),
            size,
            overview: None,
            stack: vec![Layer::Timeline(Timeline::default())],
            status: None,
            quitting: false,
            pending: Vec::new(),
            next_layer: ROOT.0 + 1,
            generation: 0,
        }
    }

    /// Where the parts of the screen stand.
    pub(crate) fn regions(&self) -> Regions {
        Regions::of(self.size.0, self.size.1)
    }

    /// The layer that keys go to.
    pub(crate) fn top(&self) -> &Layer {
        self.stack.last().expect("the timeline is never closed")
    }

    /// The layer that keys go to.
    pub(crate) fn top_mut(&mut self) -> &mut Layer {
        self.stack.last_mut().expect("the timeline is never closed")
    }

    /// The highest layer that fills the screen.
    pub(crate) fn screen(&self) -> &Layer {
        let covering = self.stack.iter().rfind(|layer| matches!(layer, Layer::Timeline(_) | Layer::Page(_)));
        covering.expect("the timeline is never closed")
    }

    /// The highest layer that fills the screen.
    pub(crate) fn screen_mut(&mut self) -> &mut Layer {
        let covering = self.stack.iter_mut().rfind(|layer| matches!(layer, Layer::Timeline(_) | Layer::Page(_)));
        covering.expect("the timeline is never closed")
    }

    /// The timeline.
    pub(crate) fn timeline(&self) -> &Timeline {
        match self.stack.first() {
            Some(Layer::Timeline(timeline)) => timeline,
            _ => unreachable!("the timeline is the lowest layer"),
        }
    }

    /// The timeline.
    pub(crate) fn timeline_mut(&mut self) -> &mut Timeline {
        match self.stack.first_mut() {
            Some(Layer::Timeline(timeline)) => timeline,
            _ => unreachable!("the timeline is the lowest layer"),
        }
    }

    /// The page of a layer, while it is open.
    pub(crate) fn page_mut(&mut self, id: LayerId) -> Option<&mut Page> {
        self.stack.iter_mut().find_map(|layer| match layer {
            Layer::Page(page) if page.id == id => Some(page),
            _ => None,
        })
    }

    /// Whether a recorder is writing the trace.
    pub(crate) fn live(&self) -> bool {
        self.overview.as_ref().is_some_and(|overview| overview.live)
    }

    /// Whether any query has no answer yet.
    pub(crate) fn waiting(&self) -> bool {
        self.pending.iter().any(|(_, slot, _)| !matches!(slot, Slot::News | Slot::Overview))
    }

    /// Whether a query of this slot has no answer yet.
    pub(crate) fn awaits(&self, layer: LayerId, slot: Slot) -> bool {
        self.pending.iter().any(|(of, what, _)| (*of, *what) == (layer, slot))
    }

    /// Asks; whatever this layer and slot asked before is given up.
    pub(crate) fn ask(&mut self, layer: LayerId, slot: Slot, query: Query) -> Command {
        self.generation += 1;
        self.pending.retain(|(of, what, _)| (*of, *what) != (layer, slot));
        self.pending.push((layer, slot, self.generation));
        Command::Ask { ticket: Ticket { layer, slot, generation: self.generation }, query }
    }

    /// Whether an answer is still wanted; it is taken off the list.
    pub(crate) fn accept(&mut self, ticket: Ticket) -> bool {
        let wanted = (ticket.layer, ticket.slot, ticket.generation);
        let before = self.pending.len();
        self.pending.retain(|pending| *pending != wanted);
        self.pending.len() < before
    }

    /// Gives up whatever a layer asked.
    pub(crate) fn forget(&mut self, layer: LayerId) -> Command {
        self.pending.retain(|(of, _, _)| *of != layer);
        Command::Forget(layer)
    }

    /// A number for a new layer.
    pub(crate) fn new_layer(&mut self) -> LayerId {
        self.next_layer += 1;
        LayerId(self.next_layer - 1)
    }

    /// Puts a layer on top; an overlay that was there closes. Gives the page that had to be closed for it, if any.
    pub(crate) fn push(&mut self, layer: Layer) -> Option<LayerId> {
        if matches!(self.top(), Layer::Prompt(_) | Layer::Help { .. }) {
            self.stack.pop();
        }
        self.stack.push(layer);
        if self.stack.len() <= MAX_LAYERS {
            return None;
        }
        match self.stack.remove(1) {
            Layer::Page(page) => Some(page.id),
            Layer::Timeline(_) | Layer::Prompt(_) | Layer::Help { .. } => None,
        }
    }

    /// Tells the user something.
    pub(crate) fn say(&mut self, role: Role, text: impl Into<String>) {
        self.status = Some(Status { text: text.into(), role });
    }

    /// How many queries of each slot wait, for tests of the bound.
    #[cfg(test)]
    pub(crate) fn pending_by_slot(&self) -> BTreeMap<(LayerId, Slot), usize> {
        let mut counts = BTreeMap::new();
        for (layer, slot, _) in &self.pending {
            *counts.entry((*layer, *slot)).or_default() += 1;
        }
        counts
    }
}
