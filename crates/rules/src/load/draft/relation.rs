//! The elements `same_…` and `different_…`.

use crate::correlate::{Key, Relation};

pub(super) fn read(name: &str) -> Option<Relation> {
    Some(match name {
        "same_id" => Relation::Same(Key::Id),
        "same_source_ip" => Relation::Same(Key::SourceIp),
        "same_src_port" => Relation::Same(Key::SourcePort),
        "same_dst_port" => Relation::Same(Key::DestinationPort),
        "same_user" => Relation::Same(Key::User),
        "same_location" => Relation::Same(Key::Location),
        "different_url" => Relation::Different(Key::Url),
        "different_srcip" => Relation::Different(Key::SourceIp),
        "different_srcgeoip" => Relation::DifferentCountry,
        _ => return None,
    })
}
