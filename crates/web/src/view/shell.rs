//! What surrounds every page: its title, where it is in the console, and the addresses of style and script.

use crate::asset::{ASSETS, Assets};

pub struct Shell {
    pub title: String,
    /// Which entry of the navigation is this page: its address.
    pub here: &'static str,
    pub logged_in: bool,
    /// Whether the page keeps itself up to date.
    pub live: bool,
    pub assets: &'static Assets,
}

impl Shell {
    pub fn inside(here: &'static str, title: impl Into<String>) -> Self {
        Self { title: title.into(), here, logged_in: true, live: false, assets: &ASSETS }
    }

    pub fn live(here: &'static str, title: impl Into<String>) -> Self {
        Self { live: true, ..Self::inside(here, title) }
    }

    /// A page that is shown before the login.
    pub fn outside(title: impl Into<String>) -> Self {
        Self { logged_in: false, ..Self::inside("", title) }
    }

    /// For `aria-current` in the navigation.
    pub fn is_here(&self, address: &str) -> bool {
        self.here == address
    }
}
