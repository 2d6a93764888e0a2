//! OSSEC's XML: several elements at the top, no declarations, no entities, variables, and a place for every fault.
//!
//! Source: OSSEC 4.3.0, `os_xml` (reference: its XML dialect). A text counts verbatim: blanks and line breaks stay, `&amp;` is
//! five signs, `\\<` is no element and keeps its backslash (patterns know it). A comment ends at `-->` or `!>`. `<var
//! name="X">` gives `$X` a value in the texts and attributes that follow in the same file. After a fault the reader goes on
//! at the next thing it understands, so that one pass tells all of them; what OSSEC skips in silence (a text that is in no
//! element or before a child) is told as a warning. The files of a site's own are read with it, and what an agent is pushed:
//! everything has a limit.

use tally_types::{did_you_mean, shown};

/// One element with what is in it. Offsets are bytes of the text.
#[derive(Debug)]
pub struct Element<'t> {
    pub name: &'t str,
    /// Of the name.
    pub at: usize,
    pub attributes: Vec<Attribute<'t>>,
    pub children: Vec<Element<'t>>,
    /// What stands behind its last child, verbatim, with variables replaced.
    pub text: String,
    pub text_at: usize,
}

#[derive(Debug)]
pub struct Attribute<'t> {
    pub name: &'t str,
    pub at: usize,
    pub value: String,
    pub value_at: usize,
}

/// A larger file is refused unread.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
pub const NESTING_MAX: usize = 16;
/// Of a name, an attribute's value or an element's text, as in OSSEC.
pub const VALUE_BYTES_MAX: usize = 8192;
/// Of a file.
pub const VARIABLES_MAX: usize = 1024;
/// Of a text.
pub const ELEMENTS_MAX: usize = 200_000;
/// OSSEC knows at most 14 of one element.
const ATTRIBUTES_MAX: usize = 64;
/// Faults beyond this number are not told; neither are warnings.
pub const FAULTS_MAX: usize = 100;

/// What is wrong at a byte of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: usize,
    /// It means nothing, and the rest is understood all the same.
    pub is_warning: bool,
    pub message: String,
}

/// The faults of a text so far.
#[derive(Default)]
struct Faults {
    list: Vec<Fault>,
    warnings: usize,
}

impl Faults {
    fn add(&mut self, at: usize, message: impl Into<String>) {
        if self.list.len() - self.warnings < FAULTS_MAX {
            self.list.push(Fault { at, is_warning: false, message: message.into() });
        }
    }

    fn warn(&mut self, at: usize, message: impl Into<String>) {
        if self.warnings < FAULTS_MAX {
            self.warnings += 1;
            self.list.push(Fault { at, is_warning: true, message: message.into() });
        }
    }
}

/// Reads all elements of `text`; the definitions of variables are not among them. Faults are in no order.
pub fn parse(text: &str) -> (Vec<Element<'_>>, Vec<Fault>) {
    let mut faults = Faults::default();
    if text.len() > TEXT_BYTES_MAX {
        faults.add(0, format!("the file has {} bytes, the limit is {TEXT_BYTES_MAX}", text.len()));
        return (Vec::new(), faults.list);
    }
    let mut reader = Reader { text, ..Reader::default() };
    reader.start();
    while reader.at < text.len() {
        reader.step(&mut faults);
    }
    while let Some(open) = reader.open.pop() {
        faults.add(open.at, format!("<{}> is not closed", shown(open.name)));
        reader.place(open, &mut faults);
    }
    (reader.done, faults.list)
}

#[derive(Default)]
struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: Vec<Element<'t>>,
    done: Vec<Element<'t>>,
    elements: usize,
    variables: Variables,
}

impl Element<'_> {
    /// The text without the blanks around it.
    pub fn trimmed(&self) -> &str {
        self.text.trim()
    }
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
    fn step(&mut self, faults: &mut Faults) {
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

    fn comment(&mut self, faults: &mut Faults) {
        let body = &self.rest()[2..];
        // One search, not two: a file of opening comments must not be read to its end for each.
        let ends = body.match_indices('>').find(|(at, _)| {
            let before = &body.as_bytes()[..*at];
            before.ends_with(b"--") || before.ends_with(b"!")
        });
        match ends {
            Some((at, _)) => self.at += 2 + at + 1,
            None => {
                faults.add(self.at, "the comment is not closed: \"-->\" is missing");
                self.at = self.text.len();
            }
        }
    }

    fn content(&mut self, faults: &mut Faults) {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let is_markup = |place: usize| bytes[place] == b'<' && (place == start || bytes[place - 1] != b'\\');
        let end = (start..bytes.len()).find(|place| is_markup(*place)).unwrap_or(bytes.len());
        let raw = &self.text[start..end];
        self.at = end;
        let blank = raw.len() - raw.trim_start().len();
        let Some(open) = self.open.last_mut() else {
            if !raw.trim().is_empty() {
                faults.warn(start + blank, "text outside of any element is ignored");
            }
            return;
        };
        if open.text.is_empty() {
            open.text_at = start;
        }
        if open.text.len() + raw.len() > VALUE_BYTES_MAX {
            // Blanks between many children are no text.
            if !raw.trim().is_empty() {
                faults.add(start + blank, format!("the text is longer than {VALUE_BYTES_MAX} bytes"));
            }
            return;
        }
        // A comment may stand in the middle of a text, where it vanishes.
        open.text.push_str(raw);
    }

    fn end(&mut self, faults: &mut Faults) {
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
                        faults.add(open.at, format!("<{}> is not closed before </{}>", shown(open.name), shown(name)));
                    }
                    self.place(open, faults);
                }
            }
            None => faults.add(start, format!("</{}> closes nothing", shown(name))),
        }
    }

    /// The element is complete.
    fn place(&mut self, mut element: Element<'t>, faults: &mut Faults) {
        if element.name == "var" {
            self.variables.define(element, faults);
            return;
        }
        self.variables.replace(&mut element.text, element.text_at, faults);
        let Some(parent) = self.open.last_mut() else {
            self.done.push(element);
            return;
        };
        // What stands before a child is not the parent's text.
        if !parent.text.trim().is_empty() {
            let blank = parent.text.len() - parent.text.trim_start().len();
            faults.warn(parent.text_at + blank, format!("text before <{}> is ignored", shown(element.name)));
        }
        parent.text.clear();
        parent.children.push(element);
    }

    fn element(&mut self, faults: &mut Faults) {
        let start = self.at;
        self.at += 1;
        let name = self.name();
        if name.is_empty() {
            faults.add(start, "\"<\" begins no element; in a text write \"\\<\"");
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
        self.elements += 1;
        let empty = self.attributes(&mut element, faults);
        if empty {
            self.place(element, faults);
        } else if self.open.len() >= NESTING_MAX {
            faults.add(start, format!("elements are nested deeper than {NESTING_MAX}"));
            self.at = self.text.len();
        } else if self.elements > ELEMENTS_MAX {
            faults.add(start, format!("there are more than {ELEMENTS_MAX} elements"));
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
    fn attributes(&mut self, element: &mut Element<'t>, faults: &mut Faults) -> bool {
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
            if element.attributes.len() >= ATTRIBUTES_MAX {
                faults.add(at, format!("<{}> has more than {ATTRIBUTES_MAX} attributes", shown(element.name)));
                self.skip_tag();
                return false;
            }
            element.attributes.push(Attribute { name, at, value, value_at });
        }
    }

    fn value(&mut self, name: &str, at: usize, faults: &mut Faults) -> Option<(String, usize)> {
        if !self.rest().starts_with('=') {
            faults.add(
                at,
                format!("attribute \"{name}\" has no value: write {name}=\"…\", without a blank before the \"=\""),
            );
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
        if !self.rest().starts_with(|c: char| c.is_ascii_whitespace() || matches!(c, '>' | '/')) {
            faults.add(self.at, format!("a blank is missing behind the value of \"{name}\""));
        }
        let mut value = raw.to_owned();
        self.variables.replace(&mut value, value_at, faults);
        Some((value, value_at))
    }

    /// Goes on behind a start tag that was not understood.
    fn skip_tag(&mut self) {
        self.at += self.rest().find('>').map_or(self.rest().len(), |end| end + 1);
    }
}

/// What `<var name="X">` has defined so far.
#[derive(Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    const NAME_BYTES_MAX: usize = 255;

    fn define(&mut self, element: Element<'_>, faults: &mut Faults) {
        match &element.attributes[..] {
            [name] if name.name == "name" && !name.value.is_empty() && name.value.len() <= Self::NAME_BYTES_MAX => {
                if self.0.len() >= VARIABLES_MAX {
                    faults.add(element.at, format!("more than {VARIABLES_MAX} variables"));
                    return;
                }
                self.0.push((name.value.clone(), element.text));
            }
            _ => faults.add(element.at, "a variable has a name and nothing else: write <var name=\"X\">value</var>"),
        }
    }

    /// Values are not replaced themselves. As long as the file has defined none, a `$` is only a sign.
    fn replace(&self, text: &mut String, at: usize, faults: &mut Faults) {
        // OSSEC looks at no text that is shorter.
        if self.0.is_empty() || text.len() <= 2 || !text.contains('$') {
            return;
        }
        let mut replaced = String::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some(place) = rest.find('$') {
            replaced.push_str(&rest[..place]);
            let behind = &rest[place + 1..];
            let name = &behind[..behind.find(['$', '.', '|', ',', ' ']).unwrap_or(behind.len())];
            rest = &behind[name.len()..];
            match self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
                Some((_, value)) => replaced.push_str(value),
                None if name.is_empty() => replaced.push('$'),
                None => {
                    let near = did_you_mean(name, self.0.iter().map(|(known, _)| &**known));
                    let offset = text.len() - rest.len() - name.len() - 1;
                    faults.add(at + offset, format!("unknown variable \"{}\"{near}", shown(name)));
                }
            }
            if replaced.len() > VALUE_BYTES_MAX {
                faults.add(at, format!("the text is longer than {VALUE_BYTES_MAX} bytes with its variables"));
                return;
            }
        }
        replaced.push_str(rest);
        *text = replaced;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tally_types::Diagnostic;

    use super::*;

    /// The elements, and the faults in the order of the text.
    fn read(text: &str) -> (Vec<Element<'_>>, Vec<String>) {
        let (elements, faults) = parse(text);
        (elements, told(text, &faults, false))
    }

    fn told(text: &str, faults: &[Fault], are_warnings: bool) -> Vec<String> {
        let mut told: Vec<_> = faults.iter().filter(|fault| fault.is_warning == are_warnings).collect();
        told.sort_by_key(|fault| fault.at);
        let file = "r.xml".into();
        told.iter().map(|fault| Diagnostic::at(&file, text, fault.at, &*fault.message).to_string()).collect()
    }

    #[test]
    fn reads_what_rule_files_hold() {
        let text = "<?xml version=\"1.0\"?>\n<!-- a -- > b -->\n<group name='a,\"b\"'>\n  <rule id= \"1\"><match> x<!-- y !>&lt;\\<z & q\n</match><if_fts/></rule>\n</group>\n";
        let (elements, faults) = read(text);
        assert_eq!(faults, Vec::<String>::new());
        let [group] = &elements[..] else { panic!() };
        let rule = &group.children[0];
        assert_eq!((group.name, &*group.attributes[0].value, rule.children.len()), ("group", "a,\"b\"", 2));
        // Verbatim: no entities, blanks stay.
        assert_eq!((&*rule.children[0].text, rule.children[1].name), (" x&lt;\\<z & q\n", "if_fts"));
        assert_eq!(&text[rule.children[0].text_at..][..2], " x");
    }

    #[test]
    fn variables_are_replaced_behind_their_definition() {
        let text = "<a>$X|y</a><var name=\"X\">one $X</var><var name=\"x\">two</var><b c=\"$x\">$X|$|$x.z$</b><d>$X</d><e>$Xy</e><f>$X</f>";
        let (elements, faults) = read(text);
        let texts: Vec<_> = elements.iter().map(|element| &*element.text).collect();
        // The first definition counts, in any case of letters; a text of two signs is not looked at.
        assert_eq!(texts, ["$X|y", "one $X|$|one $X.z$", "$X", "", "$X"]);
        assert_eq!(elements[1].attributes[0].value, "$x");
        assert_eq!(faults, ["r.xml:1:97: unknown variable \"Xy\" (did you mean \"X\"?)"]);
        let (elements, faults) = read("<var name=\"LONG\">v</var><b c=\"$LONG,\">a($LONG b</b>");
        assert_eq!((&*elements[0].text, &*elements[0].attributes[0].value), ("a(v b", "v,"));
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(
            read("<var>x</var>").1,
            ["r.xml:1:2: a variable has a name and nothing else: write <var name=\"X\">value</var>"]
        );
        let many = format!("<var name=\"V\">{}</var><a>{}</a>", "x".repeat(8000), "$V ".repeat(2000));
        assert!(read(&many).1[0].contains("with its variables"));
    }

    #[test]
    fn goes_on_after_each_fault() {
        let text = "stray\n<a b=1>\n<c>foo</d></c>\n<e>lost<f></e>\n< g>\n<h i=\"1\" i=\"2\"/>\n<j k =\"1\">\n<l m=\"1\"n=\"2\"></l>\n<!-- open";
        let (_, faults) = parse(text);
        assert_eq!(
            told(text, &faults, true),
            [
                "r.xml:1:1: text outside of any element is ignored",
                "r.xml:4:4: text before <f> is ignored",
                "r.xml:5:2: text before <h> is ignored"
            ]
        );
        assert_eq!(
            told(text, &faults, false),
            [
                "r.xml:2:2: <a> is not closed",
                "r.xml:2:6: the value of \"b\" is not in quotes",
                "r.xml:3:7: </d> closes nothing",
                "r.xml:4:9: <f> is not closed before </e>",
                "r.xml:5:1: \"<\" begins no element; in a text write \"\\<\"",
                "r.xml:6:10: attribute \"i\" is given twice",
                "r.xml:7:2: <j> is not closed",
                "r.xml:7:4: attribute \"k\" has no value: write k=\"…\", without a blank before the \"=\"",
                "r.xml:8:9: a blank is missing behind the value of \"m\"",
                "r.xml:9:1: the comment is not closed: \"-->\" is missing",
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
        fn random_text_never_panics(text in "(<var name=\"x\">x</var>)?[<>/!a&;$x\"'= \\\\é\\n-]{0,80}") {
            read(&text);
        }
    }
}
