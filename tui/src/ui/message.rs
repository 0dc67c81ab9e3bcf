//! What happens to the model (messages), what it asks for (commands), and what comes back (answers).
//!
//! Everything here is plain and serialisable: a session of the UI can be written down and played back.

use serde::{Deserialize, Serialize};
use txray_store::ids::{CallId, RequestId, StatementId};
use txray_store::model::{CallDetail, GapRow, RequestDetail, RequestSummary, RowHistory, StatementDetail};

/// Movement within a list or document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Motion {
    /// One line up.
    Up,
    /// One line down.
    Down,
    /// A screen up.
    PageUp,
    /// A screen down.
    PageDown,
    /// To the first line.
    Home,
    /// To the last line.
    End,
    /// To the next line that can be opened.
    NextLink,
    /// To the previous line that can be opened.
    PreviousLink,
}

/// An edit of a prompt's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Edit {
    /// Insert a character.
    Insert(char),
    /// Remove the character before the insertion point.
    Erase,
    /// Remove the word before it.
    EraseWord,
    /// Remove everything.
    Clear,
    /// Move it left.
    Left,
    /// Move it right.
    Right,
    /// Move it to the start.
    Home,
    /// Move it to the end.
    End,
}

/// Which of two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Direction {
    /// Towards the start.
    Back,
    /// Towards the end.
    Forward,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The terminal has this size.
    Resized {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// Some time has passed: look for news where the trace is live.
    Tick,
    /// Move the selection.
    Move(Motion),
    /// Scroll sideways by so many cells.
    Pan(i16),
    /// Open what is selected, or accept the prompt.
    Open,
    /// Close the top screen or overlay.
    Back,
    /// Leave.
    Quit,
    /// Fold or unfold the transaction at the selection.
    ToggleFold,
    /// Fold or unfold every transaction.
    ToggleFolds,
    /// Show or hide headers and bodies.
    ToggleHeads,
    /// Open the next or previous thing of the list that this screen was opened from.
    Neighbour(Direction),
    /// Ask for the filter's text.
    AskFilter,
    /// Show only failed requests, or all.
    ToggleFailed,
    /// Follow a live trace, or stop.
    ToggleFollow,
    /// Ask for a row.
    AskRow,
    /// Ask for a position.
    AskPosition,
    /// Show the gaps.
    ShowGaps,
    /// Show the keys.
    ShowHelp,
    /// Copy the selected position.
    CopyPosition,
    /// Ask again for everything on the screen.
    Reload,
    /// Edit the prompt.
    Edit(Edit),
    /// A query was answered.
    Answered {
        /// What was asked.
        ticket: Ticket,
        /// What came back.
        answer: Answer,
    },
    /// A query failed.
    Failed {
        /// What was asked.
        ticket: Ticket,
        /// Why, and what to do.
        problem: Problem,
    },
}

/// Number of a layer of the stack, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct LayerId(pub(crate) u64);

/// What a query is for. A newer query of the same layer and slot replaces an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Slot {
    /// The counts of the header.
    Overview,
    /// Looking for news.
    News,
    /// Finding a position.
    Position,
    /// Rows of the timeline.
    Rows,
    /// The preview beside the timeline.
    Preview,
    /// The content of a page.
    Content,
}

/// Names a query: its answer is used only while this is the newest of its layer and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The layer that asked.
    pub(crate) layer: LayerId,
    /// What for.
    pub(crate) slot: Slot,
    /// Counts up with each query of the UI.
    pub(crate) generation: u64,
}

/// Something for the runner to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Ask the trace.
    Ask {
        /// Names the query.
        ticket: Ticket,
        /// The query.
        query: Query,
    },
    /// Drop or interrupt whatever this layer asked.
    Forget(LayerId),
    /// Put text on the clipboard.
    Copy(String),
    /// Leave.
    Quit,
}

/// A row that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RowAsked {
    /// One that was seen: its key is in COPY text form.
    Seen {
        /// Table.
        table: String,
        /// Key values, parted by tabs.
        key: String,
    },
    /// One that the user named.
    Named {
        /// Table.
        table: String,
        /// Key values, or `COLUMN=VALUE` conditions.
        key: Vec<String>,
    },
}

/// Which requests the timeline shows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Filter {
    /// A part of method, target, client's name or status, in any case; empty for all.
    pub(crate) text: String,
    /// Only failed ones.
    pub(crate) failed_only: bool,
}

/// A page of requests that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestsAsked {
    /// Which ones.
    pub(crate) filter: Filter,
    /// Continue behind this request, in the direction.
    pub(crate) after: Option<RequestId>,
    /// Forward answers in order of time; back answers the newest first.
    pub(crate) direction: Direction,
    /// At most so many.
    pub(crate) limit: usize,
}

/// A question to the trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Query {
    /// Counts, gaps and sources.
    Overview,
    /// Whether there is anything new.
    News,
    /// Where a position lies.
    Position(String),
    /// A page of requests.
    Requests(RequestsAsked),
    /// A request.
    Request(RequestId),
    /// A statement.
    Statement(StatementId),
    /// An external call.
    Call(CallId),
    /// A row's history.
    Row(RowAsked),
}

/// Facts about the whole trace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Overview {
    /// Requests.
    pub(crate) requests: u64,
    /// Requests that failed.
    pub(crate) failed: u64,
    /// Statements.
    pub(crate) statements: u64,
    /// Statements whose snapshot is known to be just what they saw.
    pub(crate) exact: u64,
    /// Statements with a snapshot.
    pub(crate) with_snapshot: u64,
    /// Gaps by time.
    pub(crate) gaps: Vec<GapRow>,
    /// Addresses on which a recorder takes HTTP requests.
    pub(crate) listening: Vec<String>,
    /// Whether a recorder is writing the trace.
    pub(crate) live: bool,
}

/// Where a position lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Located {
    /// The request that it names or lies in, or the first one that began then.
    pub(crate) request: Option<RequestId>,
    /// The statement that it names.
    pub(crate) statement: Option<StatementId>,
    /// The call that it names.
    pub(crate) call: Option<CallId>,
    /// Whether the request itself was named and should be opened.
    pub(crate) open_request: bool,
}

/// An answer of the trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To [`Query::Overview`].
    Overview(Overview),
    /// To [`Query::News`].
    News {
        /// Whether something new was read.
        fresh: bool,
        /// Whether a recorder is writing the trace.
        live: bool,
    },
    /// To [`Query::Position`].
    Position(Located),
    /// To [`Query::Requests`], in the order asked for.
    Requests(Vec<RequestSummary>),
    /// To a query for one thing.
    Content(Content),
    /// There is no such thing in the trace.
    Missing,
}

/// What a page shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Content {
    /// A request.
    Request(Box<RequestDetail>),
    /// A statement.
    Statement(Box<StatementDetail>),
    /// An external call.
    Call(Box<CallDetail>),
    /// A row's history; several when a condition found several rows.
    Rows(Vec<RowHistory>),
    /// Gaps.
    Gaps(Vec<GapRow>),
}

/// Why something did not work, for the status line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    /// What failed, with its causes.
    pub(crate) text: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}
