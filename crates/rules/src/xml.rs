//! OSSEC's XML: several elements at the top, no declarations, and a place for every fault.
//!
//! As in OSSEC, a comment ends at `-->` or `!>`, and `\<` in a text is no element: the backslash stays, patterns know it.
//! Other than OSSEC, the five named entities of XML and numeric ones are resolved, and what OSSEC would skip in silence (a
//! stray text, a wrong end) is a fault. After a fault the reader goes on at the next thing it understands, so that one
//! pass tells all of them.

use std::sync::Arc;

use tally_types::Diagnostic;

/// One element with what is in it. Offsets are bytes of the text.
#[derive(Debug)]
pub(crate) struct Element<'t> {
    pub name: &'t str,
    /// Of the name.
    pub at: usize,
    pub attributes: Vec<Attribute<'t>>,
    pub children: Vec<Element<'t>>,
    /// What stands between its children, entities resolved, without the blanks around it.
    pub text: String,
    pub text_at: usize,
}

#[derive(Debug)]
pub(crate) struct Attribute<'t> {
    pub name: &'t str,
    pub at: usize,
    pub value: String,
    pub value_at: usize,
}

/// A larger file is refused unread.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 20;
pub(crate) const NESTING_MAX: usize = 16;
/// Of a name, an attribute's value or an element's text, as in OSSEC.
pub(crate) const VALUE_BYTES_MAX: usize = 8192;
/// Faults beyond this number are not told.
pub(crate) const FAULTS_MAX: usize = 100;

/// The faults of one file.
pub(crate) struct Faults<'t> {
    file: Arc<str>,
    text: &'t str,
    list: Vec<Diagnostic>,
}

impl<'t> Faults<'t> {
    pub fn new(file: &str, text: &'t str) -> Self {
        Self { file: file.into(), text, list: Vec::new() }
    }

    pub fn add(&mut self, at: usize, message: impl Into<String>) {
        if self.list.len() < FAULTS_MAX {
            self.list.push(Diagnostic::at(&self.file, self.text, at, message));
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|fault| (fault.line, fault.column));
        self.list
    }
}

/// Reads all elements of `text`.
pub(crate) fn parse<'t>(text: &'t str, faults: &mut Faults<'_>) -> Vec<Element<'t>> {
    if text.len() > TEXT_BYTES_MAX {
        faults.add(0, format!("the file has {} bytes, the limit is {TEXT_BYTES_MAX}", text.len()));
        return Vec::new();
    }
    let mut reader = Reader { text, at: 0, open: Vec::new(), done: Vec::new() };
    reader.start();
    while reader.at < text.len() {
        reader.step(faults);
    }
    while let Some(open) = reader.open.pop() {
        faults.add(open.at, format!("<{}> is not closed", open.name));
        reader.place(open);
    }
    reader.done
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: Vec<Element<'t>>,
    done: Vec<Element<'t>>,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// A byte order mark and an `<?xml … ?>` may stand at the very start.
    fn start(&mut self) {
        if self.rest().starts_with('\u{feff}') {
            self.at += '\u{feff}'.len_utf8();
        }
        if self.rest().starts_with("<?xml") {
            self.at += self.rest().find("?>").map_or(0, |end| end + 2);
        }
    }

    /// Takes a text, a comment, a start or an end.
    fn step(&mut self, faults: &mut Faults<'_>) {
        let rest = self.rest();
        if rest.starts_with("<!") {
            self.comment(faults);
        } else if rest.starts_with("</") {
            self.end(faults);
        } else if rest.starts_with('<') {
            self.element(faults);
        } else {
            self.content(faults);
        }
    }

    fn comment(&mut self, faults: &mut Faults<'_>) {
        let body = &self.rest()[2..];
        match [body.find("-->").map(|end| end + 3), body.find("!>").map(|end| end + 2)].into_iter().flatten().min() {
            Some(length) => self.at += 2 + length,
            None => {
                faults.add(self.at, "the comment is not closed: \"-->\" is missing");
                self.at = self.text.len();
            }
        }
    }

    fn content(&mut self, faults: &mut Faults<'_>) {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let is_markup = |place: usize| bytes[place] == b'<' && (place == start || bytes[place - 1] != b'\\');
        let end = (start..bytes.len()).find(|place| is_markup(*place)).unwrap_or(bytes.len());
        let raw = &self.text[start..end];
        self.at = end;
        let blank = raw.len() - raw.trim_start().len();
        if raw.trim().is_empty() {
            return;
        }
        let Some(open) = self.open.last_mut() else {
            faults.add(start + blank, "text outside of any element");
            return;
        };
        let text = resolve(raw.trim(), start + blank, faults);
        if open.text.is_empty() {
            open.text_at = start + blank;
        }
        if open.text.len() + text.len() > VALUE_BYTES_MAX {
            faults.add(start + blank, format!("the text is longer than {VALUE_BYTES_MAX} bytes"));
            return;
        }
        // A comment may stand in the middle of a text, where it vanishes.
        open.text.push_str(&text);
    }

    fn end(&mut self, faults: &mut Faults<'_>) {
        let start = self.at;
        let Some(length) = self.rest().find('>') else {
            faults.add(start, "\">\" is missing");
            self.at = self.text.len();
            return;
        };
        let name = &self.rest()[2..length];
        self.at += length + 1;
        match self.open.iter().rposition(|open| open.name == name) {
            Some(place) => {
                while self.open.len() > place {
                    let Some(open) = self.open.pop() else { break };
                    if self.open.len() > place {
                        faults.add(open.at, format!("<{}> is not closed before </{name}>", open.name));
                    }
                    self.place(open);
                }
            }
            None => faults.add(start, format!("</{}> closes nothing", shown(name))),
        }
    }

    fn place(&mut self, element: Element<'t>) {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.done.push(element),
        }
    }

    fn element(&mut self, faults: &mut Faults<'_>) {
        let start = self.at;
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            faults.add(start, "\"<\" begins no element; in a text write \"&lt;\"");
            return;
        }
        let mut element = Element {
            name,
            at: start + 1,
            attributes: Vec::new(),
            children: Vec::new(),
            text: String::new(),
            text_at: start,
        };
        let empty = self.attributes(&mut element, faults);
        if empty {
            self.place(element);
        } else if self.open.len() >= NESTING_MAX {
            faults.add(start, format!("elements are nested deeper than {NESTING_MAX}"));
            self.at = self.text.len();
        } else {
            element.text_at = self.at;
            self.open.push(element);
        }
    }

    /// A run of the bytes that a name may have.
    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
        let length = rest.bytes().take_while(is_name).count();
        self.at += length;
        &rest[..length]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().bytes().take_while(u8::is_ascii_whitespace).count();
    }

    /// Up to and with the `>`; says whether the element is empty (`/>`).
    fn attributes(&mut self, element: &mut Element<'t>, faults: &mut Faults<'_>) -> bool {
        loop {
            self.skip_blanks();
            let rest = self.rest();
            if rest.starts_with("/>") {
                self.at += 2;
                return true;
            }
            if rest.starts_with('>') {
                self.at += 1;
                return false;
            }
            let at = self.at;
            let name = self.name();
            if name.is_empty() {
                let what = if rest.is_empty() { "\">\" is missing" } else { "expected an attribute or \">\"" };
                faults.add(at, format!("{what} in <{}>", element.name));
                self.skip_tag();
                return false;
            }
            let Some((value, value_at)) = self.value(name, at, faults) else {
                self.skip_tag();
                return false;
            };
            if element.attributes.iter().any(|attribute| attribute.name == name) {
                faults.add(at, format!("attribute \"{name}\" is given twice"));
            }
            element.attributes.push(Attribute { name, at, value, value_at });
        }
    }

    fn value(&mut self, name: &str, at: usize, faults: &mut Faults<'_>) -> Option<(String, usize)> {
        self.skip_blanks();
        if !self.rest().starts_with('=') {
            faults.add(at, format!("attribute \"{name}\" has no value: write {name}=\"…\""));
            return None;
        }
        self.at += 1;
        self.skip_blanks();
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else {
            faults.add(self.at, format!("the value of \"{name}\" is not in quotes"));
            return None;
        };
        self.at += 1;
        let value_at = self.at;
        let Some(length) = self.rest().find(quote).filter(|length| *length <= VALUE_BYTES_MAX) else {
            faults.add(
                value_at,
                format!("the value of \"{name}\" has no closing quote, or more than {VALUE_BYTES_MAX} bytes"),
            );
            return None;
        };
        let raw = &self.rest()[..length];
        self.at += length + 1;
        Some((resolve(raw, value_at, faults), value_at))
    }

    /// Goes on behind a start tag that was not understood.
    fn skip_tag(&mut self) {
        self.at += self.rest().find('>').map_or(self.rest().len(), |end| end + 1);
    }
}

/// Puts characters for entities. A `&` that begins none is itself.
fn resolve(raw: &str, at: usize, faults: &mut Faults<'_>) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(place) = rest.find('&') {
        text.push_str(&rest[..place]);
        let entity = &rest[place + 1..];
        let name_length = entity.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'#').count();
        if name_length == 0 || !entity[name_length..].starts_with(';') {
            text.push('&');
            rest = entity;
            continue;
        }
        let name = &entity[..name_length];
        match character(name) {
            Some(c) => text.push(c),
            None => {
                let offset = raw.len() - rest.len() + place;
                faults.add(at + offset, format!("unknown entity \"&{};\": a lone \"&\" is \"&amp;\"", shown(name)));
            }
        }
        rest = &entity[name_length + 1..];
    }
    text.push_str(rest);
    text
}

fn character(entity: &str) -> Option<char> {
    match entity {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32).filter(|c| *c != '\0')
        }
    }
}

/// A name as a message shows it: short and on one line.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Vec<Element<'_>>, Vec<String>) {
        let mut faults = Faults::new("r.xml", text);
        let elements = parse(text, &mut faults);
        (elements, faults.finish().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn reads_what_rule_files_hold() {
        let text = "<?xml version=\"1.0\"?>\n<!-- a -- > b -->\n<group name='a,\"b\"'>\n  <rule id = \"1\"><match>x<!-- y !>&lt;&#x41;\\<z & q</match><if_fts/></rule>\n</group>\n";
        let (elements, faults) = read(text);
        assert_eq!(faults, Vec::<String>::new());
        let [group] = &elements[..] else { panic!() };
        let rule = &group.children[0];
        assert_eq!((group.name, &*group.attributes[0].value, rule.children.len()), ("group", "a,\"b\"", 2));
        assert_eq!((&*rule.children[0].text, rule.children[1].name), ("x<A\\<z & q", "if_fts"));
        assert_eq!(&text[rule.children[0].text_at..][..1], "x");
    }

    #[test]
    fn goes_on_after_each_fault() {
        let text = "stray\n<a b=1>\n<c>&foo;</d></c>\n<e><f></e>\n< g>\n<h i=\"1\" i=\"2\"/>\n<!-- open";
        let (_, faults) = read(text);
        assert_eq!(
            faults,
            [
                "r.xml:1:1: text outside of any element",
                "r.xml:2:2: <a> is not closed",
                "r.xml:2:6: the value of \"b\" is not in quotes",
                "r.xml:3:4: unknown entity \"&foo;\": a lone \"&\" is \"&amp;\"",
                "r.xml:3:9: </d> closes nothing",
                "r.xml:4:5: <f> is not closed before </e>",
                "r.xml:5:1: \"<\" begins no element; in a text write \"&lt;\"",
                "r.xml:6:10: attribute \"i\" is given twice",
                "r.xml:7:1: the comment is not closed: \"-->\" is missing",
            ]
        );
    }

    #[test]
    fn is_bounded() {
        assert!(read(&"<a>".repeat(100)).1.iter().any(|fault| fault.contains("nested deeper")));
        assert!(read(&" ".repeat(TEXT_BYTES_MAX + 1)).1[0].contains("limit"));
        assert_eq!(read(&"</a>".repeat(1000)).1.len(), FAULTS_MAX);
        let long = format!("<a>{}</a>", "x".repeat(VALUE_BYTES_MAX + 1));
        assert!(read(&long).1[0].contains("longer"));
    }

    proptest! {
        #[test]
        fn random_text_never_panics(text in "[<>/!a&;#x\"'= \\\\é\\n-]{0,80}") {
            read(&text);
        }
    }
}
