//! Routes: request targets without what differs from request to request.

/// The path of a target with identifiers replaced: `/posts/7/comments?page=2` is of the route `/posts/{id}/comments`.
pub(super) fn route(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let segments = path.split('/').map(|segment| if is_identifier(segment) { "{id}" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

/// Numbers, UUIDs, and long texts of hexadecimal digits or of letters and digits mixed.
fn is_identifier(segment: &str) -> bool {
    let bare = || segment.bytes().filter(|byte| *byte != b'-');
    let digits = bare().filter(u8::is_ascii_digit).count();
    let length = bare().count();
    if digits == 0 || length == 0 {
        return false;
    }
    let hexadecimal = bare().all(|byte| byte.is_ascii_hexdigit());
    let mixed = bare().all(|byte| byte.is_ascii_alphanumeric());
    digits == length || (hexadecimal && length >= 8) || (mixed && length >= 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_leave_identifiers_out() {
        for (target, expected) in [
            ("/", "/"),
            ("/posts", "/posts"),
            ("/posts/7", "/posts/{id}"),
            ("/posts/7/comments?page=2#x", "/posts/{id}/comments"),
            ("/v1/users/0190163d-8694-739b-aea5-966c26f8ad91", "/v1/users/{id}"),
            ("/files/deadbeef", "/files/deadbeef"),
            ("/files/deadbeef01", "/files/{id}"),
            ("/charges/ch3MmlLrLkdIwHu7ix", "/charges/{id}"),
            ("/2026-04-25/report", "/{id}/report"),
        ] {
            assert_eq!(route(target), expected, "{target}");
        }
    }
}
