//! Style, script and icon: they stand in the program, and browsers keep them as long as they like, since the path of
//! each changes with its content.

use super::page::Problem;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use control_api::registration::Hex;
use ring::digest::{SHA256, digest};
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
}

const STYLE: Asset = Asset {
    name: "portal.css",
    kind: "text/css; charset=utf-8",
    content: include_bytes!("../../../assets/portal.css"),
};
const SCRIPT: Asset = Asset {
    name: "portal.js",
    kind: "text/javascript; charset=utf-8",
    content: include_bytes!("../../../assets/portal.js"),
};
const ICON: Asset = Asset {
    name: "favicon.svg",
    kind: "image/svg+xml",
    content: include_bytes!("../../../assets/favicon.svg"),
};

/// Where pages find them.
pub(super) struct Paths {
    pub(super) style: String,
    pub(super) script: String,
    pub(super) icon: String,
}

/// A path that changes with the content.
fn path(asset: &Asset) -> String {
    let hash = digest(&SHA256, asset.content);
    format!("/static/{}/{}", Hex::from(&hash.as_ref()[..8]), asset.name)
}

/// Where pages find style, script and icon.
pub(super) fn paths() -> &'static Paths {
    static PATHS: LazyLock<Paths> =
        LazyLock::new(|| Paths { style: path(&STYLE), script: path(&SCRIPT), icon: path(&ICON) });
    &PATHS
}

/// `GET /static/{hash}/{name}`. Another hash is that of another version, whose pages are gone.
pub(super) async fn serve(Path((hash, name)): Path<(String, String)>) -> Response {
    let asked = format!("/static/{hash}/{name}");
    let Some(asset) = [STYLE, SCRIPT, ICON].into_iter().find(|asset| path(asset) == asked) else {
        return Problem::missing(&asked, "the pages of this version; load the page again").into_response();
    };
    let mut response = Response::new(Body::from(asset.content));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, forever);
    response
}
