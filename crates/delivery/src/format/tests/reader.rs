//! Readers of CEF and LEEF, written from their guides and not from our writers, so that they can disagree.

/// What stands in the header, and the fields in their order.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub header: Vec<String>,
    pub fields: Vec<(String, String)>,
}

impl Read {
    /// The only field of this name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| &**value);
        if found.next().is_some() { None } else { value }
    }
}

/// The header has seven parts that end with `|`; `\` stands before `|` and `\` in it. In the extension a key is a word before
/// a `=` that no `\` stands before, and a value reaches to the space before the next key.
pub(super) fn read_cef(line: &str) -> Result<Read, String> {
    let mut read = Read::default();
    let mut part = String::new();
    let mut characters = line.chars();
    while read.header.len() < 7 {
        match characters.next().ok_or("the header ends too early")? {
            '\\' => match characters.next() {
                Some(sign @ ('|' | '\\')) => part.push(sign),
                other => return Err(format!("escaped {other:?} in the header")),
            },
            '|' => read.header.push(std::mem::take(&mut part)),
            sign => part.push(sign),
        }
    }
    if read.header[0] != "CEF:0" {
        return Err(format!("version {}", read.header[0]));
    }
    // Tokens: an escaped sign, a bare `=`, anything else.
    let mut key: Option<String> = None;
    let mut value = String::new();
    while let Some(sign) = characters.next() {
        match sign {
            '\\' => match characters.next() {
                Some(sign @ ('=' | '\\')) => value.push(sign),
                Some('n') => value.push('\n'),
                Some('r') => value.push('\r'),
                other => return Err(format!("escaped {other:?} in a value")),
            },
            '=' => {
                let (before, next) = match (value.rsplit_once(' '), &key) {
                    (Some((before, next)), _) => (before.to_owned(), next.to_owned()),
                    (None, None) => (String::new(), value.clone()),
                    (None, Some(key)) => return Err(format!("a second = in {key}")),
                };
                if next.is_empty() || !next.chars().all(|c| c.is_ascii_alphanumeric()) {
                    return Err(format!("{next:?} is no key"));
                }
                if let Some(key) = key.replace(next) {
                    read.fields.push((key, before));
                }
                value.clear();
            }
            sign => value.push(sign),
        }
    }
    if let Some(key) = key {
        read.fields.push((key, value));
    }
    Ok(read)
}

/// Five parts and the delimiter, each with `|` behind it; then fields between delimiters, each `key=value`.
pub(super) fn read_leef(line: &str) -> Result<Read, String> {
    let parts: Vec<_> = line.splitn(7, '|').collect();
    let [version, vendor, product, release, event, delimiter, rest] = parts[..] else {
        return Err("the header ends too early".to_owned());
    };
    if version != "LEEF:2.0" || delimiter != "^" {
        return Err(format!("{version} with {delimiter}"));
    }
    let header = [version, vendor, product, release, event].map(str::to_owned).to_vec();
    let field = |field: &str| match field.split_once('=') {
        Some((key, value)) if key.chars().all(|c| c.is_ascii_alphanumeric()) => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{field:?} is no field")),
    };
    Ok(Read { header, fields: rest.split('^').map(field).collect::<Result<_, String>>()? })
}
