//! Numbers of payment cards: 13 to 19 digits, grouped or not, in a range that a card network uses, with a right check
//! digit. All but the last four are masked (PCI DSS 4.0.1, 3.4.1 would let six and four be shown).
//!
//! Source: ISO/IEC 7812-1 annex B (Luhn); ranges as the networks publish them.

use super::{Kind, Places};

const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// What may stand between two digits of one number.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'_')
}

pub(super) fn find(text: &str, places: &mut Places) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) {
        match number(bytes, start) {
            Some(end) => {
                places.add(start..end, Kind::Card);
                at = end;
            }
            // The number may begin with a later group.
            None => at = start + bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count(),
        }
    }
}

/// Where the card number that begins with the group of digits at `start` ends; of several the longest.
fn number(bytes: &[u8], start: usize) -> Option<usize> {
    let mut digits = Vec::with_capacity(*DIGITS.end());
    let (mut at, mut found) = (start, None);
    loop {
        let group = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).take(*DIGITS.end() + 1);
        let before = digits.len();
        digits.extend(group.map(|b| b - b'0'));
        at += digits.len() - before;
        if digits.len() > *DIGITS.end() || digits.len() == before {
            return found;
        }
        if DIGITS.contains(&digits.len()) && is_of_a_network(&digits) && has_right_check_digit(&digits) {
            found = Some(at);
        }
        if !bytes.get(at).is_some_and(|b| is_separator(*b)) {
            return found;
        }
        at += 1;
    }
}

fn has_right_check_digit(digits: &[u8]) -> bool {
    let double = |digit: u8| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 =
        digits.iter().rev().enumerate().map(|(i, d)| u32::from(if i % 2 == 1 { double(*d) } else { *d })).sum();
    sum.is_multiple_of(10)
}

fn is_of_a_network(digits: &[u8]) -> bool {
    let first = |count: usize| digits[..count].iter().fold(0_u32, |number, digit| number * 10 + u32::from(*digit));
    match digits.len() {
        // American Express; the ranges of 14 digits are Diners Club's.
        15 if matches!(first(2), 34 | 37) => true,
        14 if matches!(first(3), 300..=305) || matches!(first(2), 36 | 38 | 39) => true,
        // Visa.
        13 | 16 | 19 if first(1) == 4 => true,
        // Mastercard, Diners Club (16), Discover, JCB, UnionPay, RuPay, Mir, Troy.
        16..=19 => {
            matches!(first(4), 2221..=2720 | 3528..=3589 | 2200..=2204 | 9792)
                || matches!(first(2), 51..=55 | 60 | 62 | 64 | 65 | 81 | 82 | 36 | 38 | 39)
                || is_maestro(first(2))
        }
        13..=15 => is_maestro(first(2)),
        _ => false,
    }
}

const fn is_maestro(first_two: u32) -> bool {
    matches!(first_two, 50 | 56..=58 | 63 | 67..=69)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let mut places = Places::default();
        find(text, &mut places);
        places.0.into_iter().map(|(range, _)| text[range].to_owned()).collect()
    }

    #[test]
    fn numbers_of_cards_are_found_in_every_grouping() {
        // The networks' own test numbers.
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "3782 822463 10005",
            "6011111111111117",
            "30569309025904",
            "3530111333300000",
            "6200000000000005",
            "4222222222222",
            "6759649826438453",
        ] {
            assert_eq!(found(&format!("id 7 {card}=2512, 12")), [card]);
            assert_eq!(found(&format!("pan:{card}\n")), [card]);
        }
    }

    #[test]
    fn other_numbers_stay() {
        for text in [
            "1700000000000",
            "1732432413000",
            "4111111111111112",
            "411111111111111",
            "0000000000000000",
            "20261124070333000042",
            "41111111111111111111111",
            "192.168.100.200 10.0.0.1",
            "1234567890123",
        ] {
            assert_eq!(found(text), [""; 0], "{text}");
        }
    }
}
