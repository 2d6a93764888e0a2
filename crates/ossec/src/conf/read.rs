//! How single values are read: each kind of value has one place that says what it accepts.

use core::ops::RangeInclusive;

use super::At;
use crate::finding::Notary;
use tally_types::shown;
use tally_xml::Element;

/// More values of one kind in one file are refused.
pub(super) const ITEMS_MAX: usize = 4096;

/// `yes` or `no`, as they are.
pub(super) fn truth(element: &Element<'_>, notary: &mut Notary<'_>) -> Option<At<bool>> {
    let value = match element.trimmed() {
        "yes" => true,
        "no" => false,
        other => {
            notary.error(element.text_at, format!("<{}> is yes or no, not \"{}\"", element.name, shown(other)));
            return None;
        }
    };
    Some(At { value, line: notary.line(element.at) })
}

pub(super) fn set_truth(place: &mut Option<At<bool>>, element: &Element<'_>, notary: &mut Notary<'_>) {
    if let Some(read) = truth(element, notary) {
        *place = Some(read);
    }
}

pub(super) fn number(element: &Element<'_>, range: RangeInclusive<u32>, notary: &mut Notary<'_>) -> Option<At<u32>> {
    let text = element.trimmed();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u32>().ok().filter(|value| digits && range.contains(value)) {
        Some(value) => Some(At { value, line: notary.line(element.at) }),
        None => {
            let (low, high) = (range.start(), range.end());
            let message = format!("<{}> is a whole number from {low} to {high}, not \"{}\"", element.name, shown(text));
            notary.error(element.text_at, message);
            None
        }
    }
}

pub(super) fn set_number(
    place: &mut Option<At<u32>>,
    element: &Element<'_>,
    range: RangeInclusive<u32>,
    notary: &mut Notary<'_>,
) {
    if let Some(read) = number(element, range, notary) {
        *place = Some(read);
    }
}

/// A text that is not empty.
pub(super) fn text(element: &Element<'_>, notary: &mut Notary<'_>) -> Option<At<String>> {
    let value = element.trimmed();
    if value.is_empty() {
        notary.error(element.at, format!("<{}> is empty", element.name));
        return None;
    }
    Some(At { value: value.to_owned(), line: notary.line(element.at) })
}

pub(super) fn set_text(place: &mut Option<At<String>>, element: &Element<'_>, notary: &mut Notary<'_>) {
    if let Some(read) = text(element, notary) {
        *place = Some(read);
    }
}

/// One more of a list.
pub(super) fn push_text(list: &mut Vec<At<String>>, element: &Element<'_>, notary: &mut Notary<'_>) {
    if let Some(read) = text(element, notary) {
        push(list, read, element, notary);
    }
}

pub(super) fn push<T>(list: &mut Vec<T>, item: T, element: &Element<'_>, notary: &mut Notary<'_>) {
    if list.len() < ITEMS_MAX {
        list.push(item);
    } else {
        notary.error(element.at, format!("more than {ITEMS_MAX} of <{}>", element.name));
    }
}

/// Numbers divided by commas or blanks.
pub(super) fn numbers(element: &Element<'_>, notary: &mut Notary<'_>) -> Vec<u32> {
    let mut list = Vec::new();
    for word in element.text.split([',', ' ', '\n', '\t', '\r']).filter(|word| !word.is_empty()) {
        match word.parse() {
            Ok(number) if list.len() < ITEMS_MAX => list.push(number),
            _ => notary.error(element.text_at, format!("<{}> holds numbers, not \"{}\"", element.name, shown(word))),
        }
    }
    list
}

/// An element that this section does not know.
pub(super) fn unknown(element: &Element<'_>, section: &str, known: &[&'static str], notary: &mut Notary<'_>) {
    notary.unknown(element.at, &format!("element in <{section}>:"), element.name, known.iter().copied());
}

/// Attributes that an element does not have.
pub(super) fn unknown_attributes(element: &Element<'_>, known: &[&'static str], notary: &mut Notary<'_>) {
    for attribute in element.attributes.iter().filter(|attribute| !known.contains(&attribute.name)) {
        let what = format!("attribute of <{}>:", element.name);
        notary.unknown(attribute.at, &what, attribute.name, known.iter().copied());
    }
}
