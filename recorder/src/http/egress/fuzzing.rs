//! What a fuzz target says of outbound requests.

use super::target::{Target, outgoing_head};
use super::{Authority, ParentProxy};
use crate::http::head::RequestHead;

/// What goes out for a request is the same request, without what was meant for the proxy or with the parent's credentials.
pub(in crate::http) fn outgoing(head: &RequestHead, parse: fn(&[u8]) -> RequestHead) {
    let Ok(target) = Target::of(head) else { return };
    let _ = (target.url(&head.target), target.authority().to_string());
    let direct = parse(&outgoing_head(head, &target, None));
    let expected = match &target {
        Target::Plain { origin_form, .. } => origin_form,
        Target::Tunnel(_) | Target::Secure(_) => &head.target,
    };
    assert_eq!((&direct.method, &direct.target, direct.version), (&head.method, expected, head.version));
    let names = ["proxy-connection", "proxy-authorization"];
    let for_proxy = |(name, _): &&(String, String)| names.iter().any(|other| name.eq_ignore_ascii_case(other));
    let kept: Vec<_> = head.headers.iter().filter(|header| !for_proxy(header)).cloned().collect();
    assert_eq!((direct.headers, direct.framing), (kept, head.framing), "nothing else is different");
    let authority = Authority { host: "parent".to_owned(), port: 3128 };
    let parent = ParentProxy { authority, authorization: Some("Basic eA==".to_owned()) };
    let through = parse(&outgoing_head(head, &target, Some(&parent)));
    assert_eq!((&through.method, &through.target, through.framing), (&head.method, &head.target, head.framing));
    let credentials = through.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(names[1])).count();
    assert_eq!(credentials, 1, "the parent's and no others");
}
