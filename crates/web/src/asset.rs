//! The console's own style, script and mark, compiled in. Their addresses hold a hash of their content, so that a browser
//! may keep them and still never mixes two versions.

use std::sync::LazyLock;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use ring::digest::{SHA256, digest};

pub struct Asset {
    /// From the root: `/static/console-0a1b2c3d.css`.
    pub path: String,
    content_type: &'static str,
    content: &'static str,
}

pub struct Assets {
    pub style: Asset,
    pub script: Asset,
    pub mark: Asset,
}

pub static ASSETS: LazyLock<Assets> = LazyLock::new(|| Assets {
    style: Asset::new("console", "css", "text/css; charset=utf-8", include_str!("../assets/console.css")),
    script: Asset::new("console", "js", "text/javascript; charset=utf-8", include_str!("../assets/console.js")),
    mark: Asset::new("mark", "svg", "image/svg+xml", include_str!("../assets/mark.svg")),
});

impl Asset {
    fn new(name: &str, extension: &str, content_type: &'static str, content: &'static str) -> Self {
        let hash = digest(&SHA256, content.as_bytes());
        let short: String = hash.as_ref()[..4].iter().map(|b| format!("{b:02x}")).collect();
        Self { path: format!("/static/{name}-{short}.{extension}"), content_type, content }
    }

    fn response(&self) -> Response {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(self.content_type)),
            (CACHE_CONTROL, HeaderValue::from_static("private, max-age=604800, immutable")),
        ];
        (headers, self.content).into_response()
    }
}

/// The asset at `path`, or 404.
pub fn serve(path: &str) -> Response {
    let assets = &*ASSETS;
    let found = [&assets.style, &assets.script, &assets.mark].into_iter().find(|asset| asset.path == path);
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), Asset::response)
}
