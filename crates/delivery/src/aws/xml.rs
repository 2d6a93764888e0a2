//! What is needed of the XML that STS, SNS and S3 answer with: texts of elements, and lists of them.
//!
//! The input is bounded by whoever reads answers. It is read in one pass without recursion; entities that are declared in a
//! document are not resolved, so none can grow.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::Event;

/// More than any answer nests.
const DEPTH_MAX: usize = 64;
/// Of one text.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// Of one list.
const MEMBERS_MAX: usize = 1000;

/// Calls `seen` with the names of the open elements and the text of each that ends. Reading stops at what is not XML.
fn walk(text: &str, mut seen: impl FnMut(&[String], &str)) -> Option<()> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<String> = Vec::new();
    let mut inside = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                if open.len() >= DEPTH_MAX {
                    return None;
                }
                let name: &str = &start;
                let name = name.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
                open.push(name.rsplit(':').next().unwrap_or_default().to_owned());
                inside.clear();
            }
            Event::End(_) => {
                seen(&open, inside.trim());
                open.pop();
                inside.clear();
            }
            Event::Text(part) => push(&mut inside, &part),
            Event::CData(part) => push(&mut inside, &part),
            Event::GeneralRef(entity) => match &*entity {
                "amp" => push(&mut inside, "&"),
                "lt" => push(&mut inside, "<"),
                "gt" => push(&mut inside, ">"),
                "quot" => push(&mut inside, "\""),
                "apos" => push(&mut inside, "'"),
                _ => {
                    if let Ok(Some(char)) = entity.resolve_char_ref() {
                        push(&mut inside, char.encode_utf8(&mut [0; 4]));
                    }
                }
            },
            Event::Eof => return Some(()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn push(text: &mut String, part: &str) {
    if text.len() + part.len() <= TEXT_BYTES_MAX {
        text.push_str(part);
    }
}

/// The text of the first element of this name, wherever it is.
pub fn text(body: &[u8], name: &str) -> Option<String> {
    let body = str::from_utf8(body).ok()?;
    let mut found = None;
    walk(body, |open, text| {
        if found.is_none() && open.last().is_some_and(|last| last == name) {
            found = Some(text.to_owned());
        }
    });
    found
}

/// The elements `member` of the first list of this name, each with the texts in it.
pub fn members(body: &[u8], list: &str) -> Vec<BTreeMap<String, String>> {
    let Ok(body) = str::from_utf8(body) else { return Vec::new() };
    let (mut done, mut member) = (Vec::new(), BTreeMap::new());
    walk(body, |open, text| match open {
        [.., above, last] if above == list && last == "member" && done.len() < MEMBERS_MAX => {
            done.push(std::mem::take(&mut member));
        }
        [.., above, between, last] if above == list && between == "member" && member.len() < 16 => {
            member.insert(last.clone(), text.to_owned());
        }
        _ => {}
    });
    done
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ERROR: &str = r#"<?xml version="1.0"?>
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>User: arn &quot;x&quot; is not &#97;uthorized &amp; more</Message></Error></ErrorResponse>"#;

    const LIST: &str = "<R><P><Successful><member><Id>0</Id></member></Successful><Failed><member><Id>1</Id>\
        <Code>InternalError</Code></member><member><Id>2</Id><Code>x</Code></member></Failed></P></R>";

    #[test]
    fn texts_and_lists_are_found() {
        assert_eq!(text(ERROR.as_bytes(), "Code").as_deref(), Some("AccessDenied"));
        assert_eq!(text(ERROR.as_bytes(), "Message").as_deref(), Some("User: arn \"x\" is not authorized & more"));
        assert_eq!(text(ERROR.as_bytes(), "Account"), None);
        let failed = members(LIST.as_bytes(), "Failed");
        assert_eq!(failed.len(), 2);
        assert_eq!((&*failed[0]["Id"], &*failed[1]["Code"]), ("1", "x"));
        assert_eq!(members(LIST.as_bytes(), "Successful").len(), 1);
    }

    proptest! {
        #[test]
        fn anything_may_come(mut bytes in Just(LIST.as_bytes().to_vec()), at in 0usize..150, byte: u8, cut in 0usize..200) {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            text(&bytes, "Code");
            members(&bytes, "Failed");
        }
    }
}
