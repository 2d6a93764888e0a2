//! OSSEC's XML as its configuration files have it: several elements at the top, no entities, values as they stand.
//!
//! It is no XML: a comment runs from `<!` to the first `-->` or `!>`, `&amp;` stays five characters, `\<` in a value is no
//! element and keeps its backslash, and text between elements is nothing. Of an element with children, only what follows the
//! last child is its value. A `<var name="X">` makes `$X` mean its value in what follows it. Fixed by reading OSSEC 4.3's
//! reader (os_xml) and by its answers. After a fault the reader goes on at the next thing it understands.

use crate::finding::{Notary, shown};

/// A larger file is refused unread; OSSEC's own are some kilobytes.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// OSSEC allows 1,024; no file of it needs more than three.
pub const NESTING_MAX: usize = 16;
/// Of a name, an attribute's value or an element's value, as in OSSEC.
pub const VALUE_BYTES_MAX: usize = 8192;
/// Of one file.
pub const ELEMENTS_MAX: usize = 100_000;
const VARIABLES_MAX: usize = 1024;

/// One element. Offsets are bytes of the text.
#[derive(Debug)]
pub(crate) struct Element<'t> {
    pub name: &'t str,
    /// Of the name.
    pub at: usize,
    pub attributes: Vec<Attribute<'t>>,
    pub children: Vec<Element<'t>>,
    /// Its value, without comments; what stands before its last child is not in it.
    pub value: String,
    pub value_at: usize,
}

#[derive(Debug)]
pub(crate) struct Attribute<'t> {
    pub name: &'t str,
    pub at: usize,
    pub value: String,
}

impl Element<'_> {
    /// The value without the blanks around it. OSSEC takes them as they are, which it then mostly refuses.
    pub fn trimmed(&self) -> &str {
        self.value.trim()
    }
}

/// Reads all elements of `text`, with the variables in their place.
pub(crate) fn parse<'t>(text: &'t str, notary: &mut Notary<'_>) -> Vec<Element<'t>> {
    if text.len() > TEXT_BYTES_MAX {
        notary.error(0, format!("the file has {} bytes, the limit is {TEXT_BYTES_MAX}", text.len()));
        return Vec::new();
    }
    let mut reader = Reader { text, at: 0, open: Vec::new(), done: Vec::new(), elements: 0 };
    reader.start();
    while reader.at < text.len() {
        reader.step(notary);
    }
    while let Some(open) = reader.open.pop() {
        notary.error(open.at, format!("<{}> is not closed", shown(open.name)));
        reader.place(open);
    }
    let mut roots = reader.done;
    let mut variables = Vec::new();
    for root in &mut roots {
        expand(root, &mut variables, notary);
    }
    roots.retain(|root| root.name != "var");
    roots
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    open: Vec<Element<'t>>,
    done: Vec<Element<'t>>,
    elements: usize,
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

    fn step(&mut self, notary: &mut Notary<'_>) {
        let rest = self.rest();
        if rest.starts_with("<!") {
            self.comment(notary);
        } else if rest.starts_with("</") {
            self.end(notary);
        } else if rest.starts_with('<') {
            self.element(notary);
        } else {
            self.content(notary);
        }
    }

    fn comment(&mut self, notary: &mut Notary<'_>) {
        let body = &self.rest()[2..];
        // One search, not two: a file of opening comments must not be read to its end for each.
        let ends = body.match_indices('>').find(|(at, _)| {
            let before = &body.as_bytes()[..*at];
            before.ends_with(b"--") || before.ends_with(b"!")
        });
        match ends {
            Some((at, _)) => self.at += 2 + at + 1,
            None => {
                notary.error(self.at, "the comment is not closed: \"-->\" is missing");
                self.at = self.text.len();
            }
        }
    }

    fn content(&mut self, notary: &mut Notary<'_>) {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let is_markup = |place: usize| bytes[place] == b'<' && (place == start || bytes[place - 1] != b'\\');
        let end = (start..bytes.len()).find(|place| is_markup(*place)).unwrap_or(bytes.len());
        self.at = end;
        let Some(open) = self.open.last_mut() else { return };
        let raw = &self.text[start..end];
        if open.value.is_empty() {
            open.value_at = start;
        }
        if open.value.len() + raw.len() > VALUE_BYTES_MAX {
            notary.error(start, format!("the value of <{}> is longer than {VALUE_BYTES_MAX} bytes", shown(open.name)));
            return;
        }
        open.value.push_str(raw);
    }

    fn end(&mut self, notary: &mut Notary<'_>) {
        let start = self.at;
        let rest = self.rest();
        let length = rest.find('>').unwrap_or(rest.len());
        let name = &rest[2..length];
        self.at = (start + length + 1).min(self.text.len());
        if self.open.last().is_some_and(|open| open.name == name) {
            if let Some(open) = self.open.pop() {
                self.place(open);
            }
            return;
        }
        let Some(depth) = self.open.iter().rposition(|open| open.name == name) else {
            notary.error(start, format!("</{}> closes nothing", shown(name)));
            return;
        };
        while self.open.len() > depth {
            if let Some(open) = self.open.pop() {
                if self.open.len() > depth {
                    notary.error(open.at, format!("<{}> is not closed before </{}>", shown(open.name), shown(name)));
                }
                self.place(open);
            }
        }
    }

    /// The element is complete: into the one that holds it.
    fn place(&mut self, element: Element<'t>) {
        match self.open.last_mut() {
            Some(parent) => {
                parent.value.clear();
                parent.children.push(element);
            }
            None => self.done.push(element),
        }
    }

    fn element(&mut self, notary: &mut Notary<'_>) {
        let at = self.at + 1;
        let name_length = self.text[at..]
            .find(|c: char| c.is_ascii_whitespace() || c == '>' || c == '<')
            .unwrap_or(self.text.len() - at);
        let raw = &self.text[at..at + name_length];
        let closed_at_once = raw.ends_with('/');
        let name = raw.strip_suffix('/').unwrap_or(raw);
        self.at = at + name_length;
        self.elements += 1;
        if name.is_empty() || name.len() > VALUE_BYTES_MAX {
            notary.error(at - 1, "\"<\" without the name of an element (write \"\\<\" in a value)");
            return;
        }
        if self.open.len() >= NESTING_MAX || self.elements > ELEMENTS_MAX {
            notary.error(at, format!("elements are nested deeper than {NESTING_MAX}, or are more than {ELEMENTS_MAX}"));
            self.at = self.text.len();
            return;
        }
        let mut element =
            Element { name, at, attributes: Vec::new(), children: Vec::new(), value: String::new(), value_at: self.at };
        let is_empty = self.attributes(&mut element, notary) || closed_at_once;
        element.value_at = self.at;
        if is_empty {
            self.place(element);
        } else {
            self.open.push(element);
        }
    }

    /// Reads to the `>`; whether it was a `/>`.
    fn attributes(&mut self, element: &mut Element<'t>, notary: &mut Notary<'_>) -> bool {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if rest.starts_with("/>") {
                self.at += 2;
                return true;
            }
            if rest.starts_with('>') {
                self.at += 1;
                return false;
            }
            if rest.is_empty() || rest.starts_with('<') {
                notary.error(element.at, format!("\">\" is missing after <{}", shown(element.name)));
                return false;
            }
            self.attribute(element, notary);
        }
    }

    fn attribute(&mut self, element: &mut Element<'t>, notary: &mut Notary<'_>) {
        let at = self.at;
        let rest = self.rest();
        let ends = |c: char| c == '=' || c == '>' || c == '<' || c.is_whitespace();
        let name = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += name.len();
        let Some(value) = self.rest().strip_prefix('=').map(str::trim_start) else {
            notary.error(at, format!("the attribute \"{}\" has no value: {}=\"…\"", shown(name), shown(name)));
            // A lone sign that starts no name must not hold the reader in its place.
            self.at += usize::from(name.is_empty()) * self.rest().chars().next().map_or(0, char::len_utf8);
            return;
        };
        self.at = self.text.len() - value.len();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some((quote, length)) = quote.and_then(|q| Some((q, value[1..].find(q)?))) else {
            notary.error(self.at, format!("the value of \"{}\" is not in quotes", shown(name)));
            self.at += value.find([' ', '>', '\n', '<']).unwrap_or(value.len());
            return;
        };
        self.at += length + 2 * quote.len_utf8();
        let value = &value[1..=length];
        if value.len() > VALUE_BYTES_MAX {
            notary.error(at, format!("the value of \"{}\" is longer than {VALUE_BYTES_MAX} bytes", shown(name)));
        } else if element.attributes.iter().any(|known| known.name == name) {
            notary.error(at, format!("the attribute \"{}\" is given twice", shown(name)));
        } else if element.attributes.len() < ELEMENT_ATTRIBUTES_MAX {
            element.attributes.push(Attribute { name, at, value: value.to_owned() });
        }
    }
}

/// The most that OSSEC knows of one element is 14; what is beyond is no attribute of anything.
const ELEMENT_ATTRIBUTES_MAX: usize = 64;

/// Puts the variables that stand before it into `element` and its children, and takes a variable in.
fn expand(element: &mut Element<'_>, variables: &mut Vec<(String, String)>, notary: &mut Notary<'_>) {
    if element.name == "var" {
        let named = element.attributes.iter().find(|a| a.name == "name");
        match named {
            Some(name) if variables.len() < VARIABLES_MAX => {
                variables.push((name.value.clone(), element.value.clone()))
            }
            Some(_) => notary.error(element.at, format!("more than {VARIABLES_MAX} variables")),
            None => notary.error(element.at, "a variable has no name: <var name=\"X\">value</var>"),
        }
        return;
    }
    if !variables.is_empty() {
        for attribute in &mut element.attributes {
            attribute.value = replaced(&attribute.value, attribute.at, variables, notary);
        }
        element.value = replaced(&element.value, element.value_at, variables, notary);
    }
    for child in &mut element.children {
        expand(child, variables, notary);
    }
    element.children.retain(|child| child.name != "var");
}

fn replaced(value: &str, at: usize, variables: &[(String, String)], notary: &mut Notary<'_>) -> String {
    let mut out = String::new();
    let mut rest = value;
    while let Some(dollar) = rest.find('$') {
        let (before, after) = rest.split_at(dollar);
        out.push_str(before);
        let name = &after[1..];
        let name = &name[..name.find(['$', '.', '|', ',', ' ']).unwrap_or(name.len())];
        match variables.iter().rev().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, text)) => out.push_str(text),
            None => {
                if !name.is_empty() {
                    notary.error(at, format!("unknown variable \"{}\"", shown(name)));
                }
                out.push_str(&after[..1 + name.len()]);
            }
        }
        rest = &after[1 + name.len()..];
        if out.len() > VALUE_BYTES_MAX {
            notary.error(at, format!("with its variables a value is longer than {VALUE_BYTES_MAX} bytes"));
            return String::new();
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name(attributes)[value]{children}` of each root, and the faults.
    fn read(text: &str) -> (String, Vec<String>) {
        let mut notary = Notary::new("f", text);
        let roots = parse(text, &mut notary);
        (roots.iter().map(show).collect(), notary.finish().0.iter().map(ToString::to_string).collect())
    }

    fn show(element: &Element<'_>) -> String {
        let attributes: Vec<_> = element.attributes.iter().map(|a| format!("{}={}", a.name, a.value)).collect();
        let children: String = element.children.iter().map(show).collect();
        format!("{}({})[{}]{{{}}}", element.name, attributes.join(","), element.value.trim(), children)
    }

    #[test]
    fn the_dialect() {
        let cases = [
            ("<a>1</a><b/>", "a()[1]{}b()[]{}"),
            ("\u{feff}<?xml version=\"1.0\"?>\n<a x='1' y=\"2 > '\">q<!-- x -->1</a>", "a(x=1,y=2 > ')[q1]{}"),
            ("<a><! c !>v</a>", "a()[v]{}"),
            ("<a>q<b>1</b>z</a>", "a()[z]{b()[1]{}}"),
            ("<a>q<b>1</b></a>", "a()[]{b()[1]{}}"),
            ("<a>x &amp; \\<y></a>", "a()[x &amp; \\<y>]{}"),
            ("<a b= \"c\"/>text<d></d>", "a(b=c)[]{}d()[]{}"),
            ("<var name=\"X\">v.w</var><a y=\"$X\">1$x,$X 2$|3$</a>", "a(y=v.w)[1v.w,v.w 2$|3$]{}"),
            ("<a>$X</a>", "a()[$X]{}"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn faults_have_their_place_and_the_rest_is_read() {
        let cases = [
            ("<a>\n <b>1\n</a><c>2</c>", "f:2:3: <b> is not closed before </a>", "a()[]{b()[1]{}}c()[2]{}"),
            ("<a>1", "f:1:2: <a> is not closed", "a()[1]{}"),
            ("<a>1</b></a>", "f:1:5: </b> closes nothing", "a()[1]{}"),
            ("<!-- x <a>1</a>", "f:1:1: the comment is not closed: \"-->\" is missing", ""),
            ("<a x>1</a>", "f:1:4: the attribute \"x\" has no value: x=\"…\"", "a()[1]{}"),
            ("<a x=1>1</a>", "f:1:6: the value of \"x\" is not in quotes", "a()[1]{}"),
            ("<a x='1' x='2'/>", "f:1:10: the attribute \"x\" is given twice", "a(x=1)[]{}"),
            ("<var name='a'>b</var><c>$d</c>", "f:1:25: unknown variable \"d\"", "c()[$d]{}"),
        ];
        for (text, fault, expected) in cases {
            assert_eq!(read(text), (expected.to_owned(), vec![fault.to_owned()]), "{text}");
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(read(&"<a>".repeat(40)).1.iter().any(|fault| fault.contains("nested deeper")));
        assert!(read(&format!("<a>{}</a>", "x".repeat(VALUE_BYTES_MAX + 1))).1[0].contains("longer than"));
        assert!(read(&" ".repeat(TEXT_BYTES_MAX + 1)).1[0].contains("the limit is"));
        let doubling = format!("<var name='a'>{}</var><b>{}</b>", "x".repeat(8000), "$a,".repeat(2000));
        assert!(read(&doubling).1[0].contains("with its variables"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[<>/!a-c=\"' $\\\\\n-]{0,200}") {
            let (_, faults) = read(&text);
            proptest::prop_assert!(faults.len() <= crate::finding::FINDINGS_MAX + 1);
        }
    }
}
