//! Conversations that a proxy once held otherwise.

use crate::script::{Conversation, Side, Step};
use crate::{outbound, reversed};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn client(bytes: &str) -> Step {
    Step::Pass { client: vec![bytes.as_bytes().to_vec()], server: Vec::new() }
}

fn server(bytes: &str) -> Step {
    Step::Pass { client: Vec::new(), server: vec![bytes.as_bytes().to_vec()] }
}

async fn check(steps: Vec<Step>, requests: usize) {
    let conversation = Conversation { steps, requests: Some(requests) };
    reversed(&conversation).await.expect("the same as directly");
}

async fn check_outbound(steps: Vec<Step>, calls: usize) {
    let conversation = Conversation { steps, requests: Some(calls) };
    outbound(&conversation).await.expect("the same as directly");
}

#[tokio::test]
async fn an_application_is_heard_before_any_request() {
    check(vec![server("HTTP/1.1 408 Request Timeout\r\n\r\n"), Step::Close(Side::Server)], 0).await;
    check(vec![Step::Reset(Side::Server)], 0).await;
}

#[tokio::test]
async fn a_client_is_heard_that_never_sends_a_request() {
    check(vec![Step::End(Side::Client), server("bye"), Step::End(Side::Server)], 0).await;
    check(vec![Step::Reset(Side::Client)], 0).await;
}

#[tokio::test]
async fn parts_of_heads_reach_the_other_side() {
    let slow = vec![client("GET / HT"), client("TP/1.1\r\nX: a"), server("HTTP/1.1 408 Too Slow\r\n\r\n")];
    check(slow, 0).await;
    let parts = vec![
        client("GET / HTTP/1.1\r\n"),
        client("Host: a\r\n"),
        client("\r\n"),
        server("HTTP/1.1 2"),
        server("00 OK\r\nContent-Length: 2\r\n"),
        server("\r"),
        server("\nok"),
        client(GET),
        server(OK),
    ];
    check(parts, 2).await;
}

#[tokio::test]
async fn a_part_of_a_head_reaches_the_application_of_a_client_that_ends() {
    check(vec![client("GET / HTTP/1.1\r\nHo"), Step::End(Side::Client), server(OK), Step::End(Side::Server)], 0).await;
}

/// The answer to the first may depend on the second.
#[tokio::test]
async fn requests_sent_ahead_reach_the_application_before_it_answers() {
    check(vec![client(GET), client(GET), server(OK), server(OK)], 2).await;
}

#[tokio::test]
async fn a_side_that_ended_between_requests_still_hears_the_other() {
    let steps = vec![client(GET), server(OK), Step::End(Side::Client), server("more"), Step::End(Side::Server)];
    check(steps, 1).await;
    let steps = vec![client(GET), server(OK), Step::End(Side::Server), client("more"), Step::End(Side::Client)];
    check(steps, 1).await;
}

#[tokio::test]
async fn a_side_that_breaks_off_is_heard_to() {
    for side in [Side::Client, Side::Server] {
        check(vec![client(GET), Step::Reset(side)], 1).await;
        check(vec![client(GET), server(OK), Step::Reset(side)], 1).await;
        check(vec![client(GET), server("HTTP/1.1 200 OK\r\n\r\npart"), Step::Reset(side)], 1).await;
        check(vec![client("\u{1}\u{2}"), server("\u{3}"), Step::Reset(side)], 0).await;
    }
}

/// What follows a request to switch may be of the other protocol already, although it looks like a request.
#[tokio::test]
async fn what_follows_a_request_to_switch_is_not_changed() {
    let switch = "CONNECT a:1 HTTP/1.1\r\n\r\n";
    check(vec![client(switch), client(GET), server("HTTP/1.1 200 OK\r\n\r\n"), client(GET), server("raw")], 1).await;
    let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    check(vec![client(upgrade), server(OK), client(GET), server(OK)], 2).await;
}

/// More than are followed pass all the same.
#[tokio::test]
async fn any_number_of_requests_may_be_sent_ahead() {
    check(vec![client(&GET.repeat(1_000)), server(&OK.repeat(1_000))], 256).await;
}

const CALL: &str = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test]
async fn parts_of_heads_reach_the_client_of_the_outbound_proxy() {
    check_outbound(vec![client(CALL), server("HTTP/1.1 2"), server("00 OK\r\nContent-Length: 2\r\n\r\nok")], 1).await;
}

#[tokio::test]
async fn what_comes_with_a_response_reaches_the_client_of_the_outbound_proxy() {
    check_outbound(vec![client(CALL), server(&format!("{OK}more")), client(CALL), server(OK)], 2).await;
}

#[tokio::test]
async fn a_side_of_the_outbound_proxy_that_breaks_off_is_heard_to() {
    for side in [Side::Client, Side::Server] {
        check_outbound(vec![client(CALL), Step::Reset(side)], 1).await;
        check_outbound(vec![client(CALL), server(OK), Step::Reset(side)], 1).await;
        check_outbound(vec![client(CALL), server("HTTP/1.1 200 OK\r\n\r\npart"), Step::Reset(side)], 1).await;
    }
}
