//! Whatever happens, in whatever order: no panic, and what must hold holds.

use proptest::prelude::*;

use super::memory::Memory;
use super::samples;
use crate::ui::harness::Harness;
use crate::ui::message::{Answer, Command, Content, Direction, Edit, LayerId, Message, Motion, Problem, Slot, Ticket};
use crate::ui::model::{Layer, Model};
use crate::ui::source::DataSource;
use crate::ui::theme::Theme;
use crate::ui::update::{start, update};
use crate::ui::worker::reply;

fn motion() -> impl Strategy<Value = Motion> {
    prop::sample::select(vec![
        Motion::Up,
        Motion::Down,
        Motion::PageUp,
        Motion::PageDown,
        Motion::Home,
        Motion::End,
        Motion::NextLink,
        Motion::PreviousLink,
    ])
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        3 => prop::sample::select(vec!['a', ' ', '@', '1', '日', '\u{301}', '\'', '\u{7f}']).prop_map(Edit::Insert),
        1 => prop::sample::select(vec![
            Edit::Erase, Edit::EraseWord, Edit::Clear, Edit::Left, Edit::Right, Edit::Home, Edit::End
        ]),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Missing),
        Just(Answer::News { fresh: true, live: false }),
        (0..30_u64).prop_map(|count| Answer::Requests((1..=count).map(samples::plain_request).collect())),
        (1..9_u64).prop_map(|id| Answer::Content(Content::Request(Box::new(samples::request(id))))),
        (1..9_u64).prop_map(|id| Answer::Content(Content::Statement(Box::new(samples::statement_detail(id))))),
        Just(Answer::Content(Content::Rows(vec![samples::history("17\ta\\tb")]))),
        Just(Answer::Content(Content::Gaps(Vec::new()))),
    ]
}

/// Answers to things that were perhaps never asked.
fn ticket() -> impl Strategy<Value = Ticket> {
    let slot = prop::sample::select(vec![
        Slot::Overview,
        Slot::News,
        Slot::Position,
        Slot::Rows,
        Slot::Preview,
        Slot::Content,
    ]);
    (0..6_u64, slot, 0..40_u64).prop_map(|(layer, slot, generation)| Ticket { layer: LayerId(layer), slot, generation })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        8 => motion().prop_map(Message::Move),
        6 => Just(Message::Open),
        3 => Just(Message::Back),
        2 => (0..200_u16, 0..60_u16).prop_map(|(width, height)| Message::Resized { width, height }),
        2 => edit().prop_map(Message::Edit),
        2 => any::<i16>().prop_map(Message::Pan),
        8 => prop::sample::select(vec![
            Message::Tick, Message::ToggleFold, Message::ToggleFolds, Message::ToggleHeads,
            Message::Neighbour(Direction::Forward), Message::Neighbour(Direction::Back), Message::AskFilter,
            Message::ToggleFailed, Message::ToggleFollow, Message::AskRow, Message::AskPosition, Message::ShowGaps,
            Message::ShowHelp, Message::CopyPosition, Message::Reload,
        ]),
        2 => (ticket(), answer()).prop_map(|(ticket, answer)| Message::Answered { ticket, answer }),
        1 => ticket().prop_map(|ticket| Message::Failed {
            ticket,
            problem: Problem { text: "it\u{1b}[2J broke".into(), hint: Some("mend it".into()) },
        }),
    ]
}

fn check(model: &Model) {
    assert!(matches!(model.stack.first(), Some(Layer::Timeline(_))), "the timeline is the lowest layer");
    let timelines = model.stack.iter().filter(|layer| matches!(layer, Layer::Timeline(_))).count();
    assert_eq!(timelines, 1);
    for layer in &model.stack[..model.stack.len() - 1] {
        assert!(!matches!(layer, Layer::Prompt(_) | Layer::Help { .. }), "overlays are on top only");
    }
    let timeline = model.timeline();
    assert!(timeline.selected < timeline.rows.len().max(1));
    assert!(timeline.top <= timeline.selected);
    assert!(timeline.selected < timeline.top + model.regions().list_rows().max(1));
    assert!(timeline.rows.windows(2).all(|pair| pair[0].id < pair[1].id), "in order, none twice");
    for layer in &model.stack {
        match layer {
            Layer::Page(page) => {
                assert!(page.selected < page.document.lines.len().max(1));
                assert!(page.top <= page.selected);
                assert!(page.selected < page.top + usize::from(page.area(&model.regions()).height).max(1));
            }
            Layer::Prompt(prompt) => assert!(prompt.at <= prompt.text.len()),
            Layer::Timeline(_) | Layer::Help { .. } => {}
        }
    }
    assert!(model.pending_by_slot().values().all(|count| *count == 1), "one query a slot");
}

/// Draws at the model's size; the view may not panic, nor let a control character through.
fn draw(model: &Model) {
    let buffer = crate::ui::harness::draw(model, Theme::new(true));
    let steering = buffer.content.iter().any(|cell| cell.symbol().chars().any(char::is_control));
    assert!(!steering, "a control character reached the screen");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn answered_at_once(messages in prop::collection::vec(message(), 1..60), live: bool, width in 0..160_u16, height in 0..50_u16) {
        let source = Memory { live, more: 3, ..Memory::with(450) };
        let mut ui = Harness::new("forum", source, (width, height), None);
        check(&ui.model);
        for message in messages {
            ui.send(message);
            check(&ui.model);
            draw(&ui.model);
        }
    }

    #[test]
    fn answered_late_or_never(
        steps in prop::collection::vec((message(), prop::option::of(any::<prop::sample::Index>())), 1..60),
        live: bool,
    ) {
        let mut source = Memory { live, more: 3, ..Memory::with(450) };
        let mut model = Model::new("forum", (80, 24));
        let mut open = start(&mut model, None);
        for (message, answered) in steps {
            open.extend(update(&mut model, message));
            check(&model);
            if let Some(index) = answered
                && !open.is_empty()
                && let Command::Ask { ticket, query } = open.swap_remove(index.index(open.len()))
            {
                let message = reply(ticket, source.answer(&query));
                open.extend(update(&mut model, message));
                check(&model);
            }
            draw(&model);
        }
    }
}

#[test]
fn every_screen_fits_every_size() {
    for keys in
        ["", "?", "/abc", "!", "<enter>", "<enter>h", "<enter><enter>", "<enter>jjj<enter>", "<enter>jjjjj<enter>"]
    {
        for width in [0, 1, 2, 3, 7, 20, 33, 50, 66, 80, 120, 181] {
            for height in [0, 1, 2, 3, 4, 6, 9, 12, 24, 31, 60] {
                let ui = super::memory::after(Memory::with(30), (width, height), keys);
                check(&ui.model);
                draw(&ui.model);
            }
        }
    }
}
