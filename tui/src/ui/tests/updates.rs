//! What messages do to the model, and what they ask for.

use txray_store::ids::RequestId;

use super::memory::{Memory, after};
use super::samples::REQUESTS;
use crate::ui::harness::Harness;
use crate::ui::message::{Answer, Command, Content, Direction, Message, Motion, Problem, Query, Slot, Ticket};
use crate::ui::model::page::{Glance, Page, PageState, Subject};
use crate::ui::model::timeline::{PAGE, Preview};
use crate::ui::model::{Layer, Model, ROOT};
use crate::ui::tests::samples;
use crate::ui::update::{start, update};

fn started() -> Model {
    after(Memory::with(REQUESTS), (80, 24), "").model
}

fn selected(model: &Model) -> u64 {
    model.timeline().selection().map_or(0, |row| row.id.0)
}

fn ticket_of(commands: &[Command], slot: Slot) -> Ticket {
    let found = commands.iter().find_map(|command| match command {
        Command::Ask { ticket, .. } if ticket.slot == slot => Some(*ticket),
        _ => None,
    });
    found.expect("a query of that slot")
}

#[test]
fn a_start_asks_for_the_overview_and_the_first_requests() {
    let mut model = Model::new("t", (80, 24));
    let commands = start(&mut model, None);
    let slots: Vec<Slot> = commands
        .iter()
        .map(|command| if let Command::Ask { ticket, .. } = command { ticket.slot } else { Slot::News })
        .collect();
    assert_eq!(slots, [Slot::Overview, Slot::Rows]);
    let mut model = Model::new("t", (80, 24));
    let commands = start(&mut model, Some("@stmt:4".into()));
    assert!(matches!(&commands[1], Command::Ask { query: Query::Position(text), .. } if text == "@stmt:4"));
}

#[test]
fn keys_lead_to_screens() {
    let check = |keys: &str, path: &[&str]| {
        let model = after(Memory::with(REQUESTS), (80, 24), keys).model;
        let titles: Vec<String> = model
            .stack
            .iter()
            .map(|layer| match layer {
                Layer::Timeline(_) => "timeline".to_owned(),
                Layer::Page(page) => page.subject.title(),
                Layer::Prompt(_) => "prompt".to_owned(),
                Layer::Help { .. } => "help".to_owned(),
            })
            .collect();
        assert_eq!(titles, path, "{keys}");
    };
    check("", &["timeline"]);
    check("<esc><esc>", &["timeline"]);
    check("<enter>", &["timeline", "@req:1"]);
    check("<enter><enter>", &["timeline", "@req:1", "@stmt:1"]);
    check("<enter><enter><esc>", &["timeline", "@req:1"]);
    check("<enter><enter>bb", &["timeline"]);
    check("<enter>n", &["timeline", "@req:2"]);
    check("<enter>p", &["timeline", "@req:1"]);
    check("<enter>nnp", &["timeline", "@req:2"]);
    check("<enter><enter>n", &["timeline", "@req:1", "@stmt:3"]);
    check("<enter>jjj<enter>", &["timeline", "@req:1", "@call:1"]);
    check("<enter>jjjjj<enter>", &["timeline", "@req:1", "forum_subscriptions 17"]);
    check("<enter>jjjjj<enter><enter>", &["timeline", "@req:1", "forum_subscriptions 17", "@req:1"]);
    check("rforum_subscriptions 17<enter>", &["timeline", "forum_subscriptions 17"]);
    check("rforum_subscriptions<enter>", &["timeline"]);
    check("r", &["timeline", "prompt"]);
    check("rx<esc>", &["timeline"]);
    check("/x?q", &["timeline", "prompt"]);
    check("?", &["timeline", "help"]);
    check("??", &["timeline"]);
    check("?r", &["timeline", "prompt"]);
    check("!", &["timeline", "gaps"]);
    check(":@stmt:4<enter>", &["timeline", "@req:1", "@stmt:4"]);
    check("<enter><enter>:@req:300<enter>", &["timeline", "@req:300"]);
    check(":nonsense<enter>", &["timeline"]);
}

#[test]
fn movement_stays_within_the_list_and_asks_for_more() {
    let check = |keys: &str, expected: u64| {
        let model = after(Memory::with(REQUESTS), (80, 24), keys).model;
        assert_eq!(selected(&model), expected, "{keys}");
    };
    check("k", 1);
    check("j", 2);
    check("jjjk", 3);
    check("<pgdn>", 19);
    check("<pgdn><pgup>", 1);
    check("G", REQUESTS);
    check("Gj", REQUESTS);
    check("Gg", 1);
    check("<end><pgup>", REQUESTS - 18);
    check(&"<pgdn>".repeat(40), REQUESTS);
    check(&format!("G{}", "<pgup>".repeat(40)), 1);
}

#[test]
fn a_filter_keeps_the_place_and_can_be_given_up() {
    let mut ui = after(Memory::with(REQUESTS), (80, 24), &"j".repeat(99));
    assert_eq!(selected(&ui.model), 100);
    ui.press("/delete").expect("keys");
    assert_eq!(selected(&ui.model), 104, "the first match from there on");
    assert!(ui.model.timeline().rows.iter().all(|row| row.method == "DELETE"));
    assert_eq!(ui.model.timeline().rows[0].id, RequestId(4), "earlier matches are there too");
    ui.press("<esc>").expect("keys");
    assert_eq!(ui.model.timeline().filter.text, "");
    assert_eq!(selected(&ui.model), 104);
    ui.press("/load-0002<enter>").expect("keys");
    assert_eq!(ui.model.timeline().filter.text, "load-0002");
    ui.press("<esc>").expect("keys");
    assert!(!ui.model.timeline().filtered(), "Esc on the timeline shows all again");
    ui.press("f").expect("keys");
    assert_eq!(ui.model.timeline().rows.len(), 1, "one failed, before the place");
}

#[test]
fn stale_answers_change_nothing() {
    let mut model = started();
    let commands = update(&mut model, Message::AskFilter);
    assert_eq!(commands, []);
    let first = update(&mut model, Message::Edit(crate::ui::message::Edit::Insert('a')));
    let second = update(&mut model, Message::Edit(crate::ui::message::Edit::Insert('b')));
    let before = model.clone();
    let stale = ticket_of(&first, Slot::Rows);
    assert_eq!(update(&mut model, Message::Answered { ticket: stale, answer: Answer::Requests(Vec::new()) }), []);
    let problem = Problem { text: "interrupted".into(), hint: None };
    assert_eq!(update(&mut model, Message::Failed { ticket: stale, problem }), []);
    assert_eq!(model, before);
    let fresh = ticket_of(&second, Slot::Rows);
    let rows = vec![samples::plain_request(7)];
    update(&mut model, Message::Answered { ticket: fresh, answer: Answer::Requests(rows) });
    assert_eq!(selected(&model), 7);
}

#[test]
fn a_closed_page_is_forgotten_and_its_answer_dropped() {
    let mut model = started();
    let opened = update(&mut model, Message::Open);
    let ticket = ticket_of(&opened, Slot::Content);
    let closed = update(&mut model, Message::Back);
    assert_eq!(closed, [Command::Forget(ticket.layer)]);
    let before = model.clone();
    let answer = Answer::Content(Content::Request(Box::new(samples::request(1))));
    assert_eq!(update(&mut model, Message::Answered { ticket, answer }), []);
    assert_eq!(model, before);
}

#[test]
fn a_live_trace_is_followed_until_one_scrolls_up() {
    let source = Memory { live: true, more: 30, ..Memory::with(REQUESTS) };
    let mut ui = after(source, (80, 24), "");
    assert!(ui.model.timeline().following);
    assert_eq!(selected(&ui.model), REQUESTS);
    ui.send(Message::Tick);
    assert_eq!(selected(&ui.model), REQUESTS + 30);
    ui.press("k").expect("keys");
    assert!(!ui.model.timeline().following);
    ui.send(Message::Tick);
    assert_eq!(selected(&ui.model), REQUESTS + 29, "the place stays");
    assert_eq!(ui.model.timeline().rows.last().map(|row| row.id.0), Some(REQUESTS + 60), "news are at hand");
    assert_eq!(ui.model.overview.as_ref().map(|overview| overview.requests), Some(REQUESTS + 60));
    ui.press("F").expect("keys");
    assert_eq!(selected(&ui.model), REQUESTS + 60);
    let mut ended = after(Memory::with(3), (80, 24), "F");
    assert!(!ended.model.timeline().following);
    assert!(ended.model.status.as_ref().is_some_and(|status| status.text.contains("has ended")));
    ended.send(Message::Tick);
    assert!(!ended.model.awaits(ROOT, Slot::News), "a finished trace is not polled");
}

#[test]
fn ticks_do_not_pile_up_queries() {
    let mut model = after(Memory { live: true, ..Memory::with(3) }, (80, 24), "").model;
    assert_eq!(update(&mut model, Message::Tick).len(), 1);
    assert_eq!(update(&mut model, Message::Tick).len(), 0);
}

#[test]
fn only_a_screen_with_room_asks_for_a_preview() {
    let asks = |size| {
        let ui = after(Memory::with(REQUESTS), size, "jj");
        matches!(ui.model.timeline().preview, Preview::Ready(ref detail) if detail.summary.id == RequestId(3))
    };
    assert!(!asks((80, 24)));
    assert!(asks((120, 40)));
    assert!(asks((200, 24)));
}

#[test]
fn a_request_shows_the_selected_line_at_a_glance_where_there_is_room() {
    let glance = |size, keys: &str| {
        let ui = after(Memory::with(REQUESTS), size, keys);
        match ui.model.top() {
            Layer::Page(Page { glance: Glance::Ready(target, _), .. }) => target.position(),
            _ => None,
        }
    };
    assert_eq!(glance((80, 24), "<enter>"), None);
    assert_eq!(glance((120, 40), "<enter>").as_deref(), Some("@stmt:1"));
    assert_eq!(glance((120, 40), "<enter>jjj").as_deref(), Some("@call:1"));
    assert_eq!(glance((120, 40), "<enter><enter>"), None, "only a request's page has one");
}

#[test]
fn failures_are_told_and_end_the_asking() {
    let ui = after(Memory { broken: true, ..Memory::with(REQUESTS) }, (120, 40), "jjGg");
    assert!(ui.model.status.as_ref().is_some_and(|status| status.text.contains("txray verify")));
    let mut mended = after(Memory::with(REQUESTS), (80, 24), "rnowhere 1<enter>");
    assert!(matches!(mended.model.top(), Layer::Page(page) if matches!(page.state, PageState::Failed(_))));
    mended.press("<esc>").expect("keys");
    assert_eq!(mended.model.stack.len(), 1);
}

#[test]
fn positions_are_copied() {
    let check = |keys: &str, expected: &[&str]| {
        assert_eq!(after(Memory::with(REQUESTS), (80, 24), keys).copied, expected, "{keys}");
    };
    check("jy", &["@req:2"]);
    check("<enter>jy", &["@txn:2"]);
    check("<enter>y", &["@stmt:1"]);
    check("<enter><enter>y", &["@stmt:1"]);
    check("<enter>gy", &["@req:1"]);
    check("!y", &[]);
}

#[test]
fn folding_hides_a_transaction_and_keeps_the_place() {
    let lines = |ui: &Harness<Memory>| match ui.model.top() {
        Layer::Page(page) => (page.document.lines.len(), page.selected),
        _ => panic!("a page is open"),
    };
    let mut ui = after(Memory::with(REQUESTS), (80, 24), "<enter>jjjj");
    let (all, _) = lines(&ui);
    ui.press("<space>").expect("keys");
    let (folded, place) = lines(&ui);
    assert_eq!(folded, all - 5, "three statements, a call and a row change are hidden");
    ui.press("<space>").expect("keys");
    assert_eq!(lines(&ui), (all, place));
    ui.press("z").expect("keys");
    assert_eq!(lines(&ui).0, folded);
    ui.press("z").expect("keys");
    assert_eq!(lines(&ui).0, all);
}

#[test]
fn the_stack_of_pages_is_bounded() {
    let mut ui = after(Memory::with(REQUESTS), (80, 24), "<enter>jjjjj<enter>");
    for _ in 0..100 {
        // From a row's history to the request behind it, and from there to the row again.
        ui.press("<enter>Gk<enter>").expect("keys");
    }
    assert!(ui.model.stack.len() <= 64);
    assert!(matches!(ui.model.stack[0], Layer::Timeline(_)));
    for _ in 0..70 {
        ui.press("b").expect("keys");
    }
    assert_eq!(ui.model.stack.len(), 1);
}

#[test]
fn messages_and_the_model_survive_serialisation() {
    let ui = after(Memory::with(20), (120, 40), "<enter>jjjjj<enter>?");
    let text = serde_json::to_string(&ui.model).expect("serialisable");
    assert_eq!(serde_json::from_str::<Model>(&text).expect("readable"), ui.model);
    let messages = [
        Message::Move(Motion::PageDown),
        Message::Neighbour(Direction::Back),
        Message::Answered {
            ticket: Ticket { layer: ROOT, slot: Slot::Content, generation: 3 },
            answer: Answer::Content(Content::Rows(vec![samples::history("17")])),
        },
    ];
    for message in messages {
        let text = serde_json::to_string(&message).expect("serialisable");
        assert_eq!(serde_json::from_str::<Message>(&text).expect("readable"), message);
    }
}

#[test]
fn a_page_of_requests_is_what_the_timeline_asks_for() {
    let mut model = Model::new("t", (80, 24));
    let commands = start(&mut model, None);
    let asked = commands.iter().find_map(|command| match command {
        Command::Ask { query: Query::Requests(asked), .. } => Some(asked.limit),
        _ => None,
    });
    assert_eq!(asked, Some(PAGE));
    assert_eq!(Subject::Gaps.query(), None);
}
