//! What each answer tells browsers: to load, send, embed and keep nothing but what the portal needs.

use super::guard::refusal;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use control_api::{ApiError, ErrorCode};

/// Nothing is fetched from elsewhere, and nothing on a page is a script or a style by itself.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Each answer has these, whatever its handler says.
const ALWAYS: [(HeaderName, &str); 9] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not "no-referrer": with that, browsers send forms with the origin "null" even to the page's own server.
    (header::REFERRER_POLICY, "same-origin"),
    (
        HeaderName::from_static("permissions-policy"),
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), microphone=(), midi=(), \
         payment=(), usb=()",
    ),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-embedder-policy"), "require-corp"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses requests without a sane `Host`, and gives each answer its headers. An answer is kept by nobody, unless its
/// handler said otherwise.
pub(crate) async fn strict(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = match host(request.headers()) {
        Some(_) => next.run(request).await,
        None => refusal(&path, &no_host()),
    };
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The name or address that a request was sent to, with its port, when there is exactly one and it looks like one.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (all.next(), all.next()) else { return None };
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    host.to_str().ok().filter(|host| (1..=261).contains(&host.len()) && host.bytes().all(sane))
}

fn no_host() -> ApiError {
    ApiError::new(
        ErrorCode::BadRequest,
        "the request",
        "it is not understood",
        "its Host header is missing, there twice, or neither a name nor an address",
        "send it to the name or address of the configuration server",
    )
}
