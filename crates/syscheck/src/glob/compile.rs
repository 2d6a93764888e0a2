//! From a glob's text to its shape or automaton.

use super::automaton::{ByteSet, Step};
use super::{Glob, GlobError, Part, Shape};

enum Component {
    Plain(Vec<u8>),
    /// `**`.
    Any,
    Wild(Vec<Node>),
}

enum Node {
    Byte(u8),
    /// `?`
    One,
    /// `*`
    Run,
    Class(ByteSet),
    Either(Vec<Vec<Node>>),
}

pub(super) fn compile(text: &str) -> Result<Glob, GlobError> {
    let components = components(text)?;
    let literal_bytes = components.iter().map(component_bytes).sum();
    let plain = components.iter().take_while(|c| matches!(c, Component::Plain(_))).count();
    let mut literal = Vec::new();
    for component in &components[..plain] {
        if let Component::Plain(name) = component {
            literal.push(b'/');
            literal.extend_from_slice(name);
        }
    }
    let shape = match &components[plain..] {
        [] => Shape::Path,
        [Component::Any, last @ (Component::Plain(_) | Component::Wild(_))] => Shape::Below(part(last)?),
        rest if rest.iter().all(|c| !matches!(c, Component::Any)) => {
            Shape::Parts(rest.iter().map(part).collect::<Result<_, _>>()?)
        }
        _ => Shape::Automaton(emit(&components)?.into()),
    };
    Ok(Glob { text: text.into(), literal: literal.into(), literal_bytes, shape })
}

/// A component by itself.
fn part(component: &Component) -> Result<Part, GlobError> {
    let nodes = match component {
        Component::Plain(plain) => return Ok(Part::Plain(plain[..].into())),
        Component::Any => &[Node::Run][..],
        Component::Wild(nodes) => nodes,
    };
    let mut runs = nodes.iter().enumerate().filter(|(_, node)| matches!(node, Node::Run));
    if let (Some((place, _)), None) = (runs.next(), runs.next())
        && let (Some(start), Some(end)) = (plain(&nodes[..place]), plain(&nodes[place + 1..]))
    {
        return Ok(Part::Around(start, end));
    }
    let bytes = nodes.iter().filter_map(|node| if let Node::Byte(byte) = node { Some(*byte) } else { None });
    // Letters and digits are in most names, so that another byte says more.
    let needs = bytes.min_by_key(u8::is_ascii_alphanumeric);
    let mut steps = Vec::new();
    emit_sequence(&mut steps, nodes);
    steps.push(Step::Accept);
    if steps.len() > Glob::STATES_MAX {
        return Err(GlobError::TooComplex);
    }
    Ok(Part::Wild { needs, steps: steps.into() })
}

fn plain(nodes: &[Node]) -> Option<Box<[u8]>> {
    nodes.iter().map(|node| if let Node::Byte(byte) = node { Some(*byte) } else { None }).collect()
}

fn components(text: &str) -> Result<Vec<Component>, GlobError> {
    let bytes = text.as_bytes();
    if bytes.is_empty() {
        return Err(GlobError::Empty);
    }
    if bytes.len() > Glob::BYTES_MAX {
        return Err(GlobError::TooLong(bytes.len()));
    }
    if bytes.contains(&0) {
        return Err(GlobError::Nul);
    }
    let absolute = bytes[0] == b'/';
    let trimmed = bytes.strip_suffix(b"/").unwrap_or(bytes);
    let mut components: Vec<Component> = Vec::new();
    if !absolute {
        components.push(Component::Any);
    }
    let inner = trimmed.strip_prefix(b"/").unwrap_or(trimmed);
    for component in inner.split(|&b| b == b'/').filter(|_| !inner.is_empty()) {
        let component = parse_component(component)?;
        let repeated = matches!((components.last(), &component), (Some(Component::Any), Component::Any));
        if !repeated {
            components.push(component);
        }
    }
    Ok(components)
}

fn parse_component(bytes: &[u8]) -> Result<Component, GlobError> {
    match bytes {
        b"" | b"." | b".." => return Err(GlobError::NotNormal),
        b"**" => return Ok(Component::Any),
        _ => {}
    }
    let mut reader = Reader { rest: bytes };
    let nodes = reader.sequence(0)?;
    if !reader.rest.is_empty() {
        return Err(GlobError::OpenBraces);
    }
    match plain(&nodes) {
        Some(plain) if matches!(&plain[..], b"." | b"..") => Err(GlobError::NotNormal),
        Some(plain) => Ok(Component::Plain(plain.into())),
        None => Ok(Component::Wild(nodes)),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Up to the end, or before the `,` or `}` that ends an alternative.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Node>, GlobError> {
        let mut nodes = Vec::new();
        while let Some(&byte) = self.rest.first() {
            if matches!(byte, b',' | b'}') && depth > 0 {
                break;
            }
            self.next();
            nodes.push(match byte {
                b'*' if self.rest.first() == Some(&b'*') => return Err(GlobError::StarsInName),
                b'*' => Node::Run,
                b'?' => Node::One,
                b'[' => Node::Class(self.class()?),
                b'{' => Node::Either(self.alternatives(depth + 1)?),
                b'}' => return Err(GlobError::OpenBraces),
                b'\\' => Node::Byte(self.next().ok_or(GlobError::LoneEscape)?),
                plain => Node::Byte(plain),
            });
        }
        Ok(nodes)
    }

    fn alternatives(&mut self, depth: usize) -> Result<Vec<Vec<Node>>, GlobError> {
        if depth > Glob::NESTING_MAX {
            return Err(GlobError::TooDeep);
        }
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence(depth)?);
            match self.next() {
                Some(b',') => {}
                Some(b'}') => return Ok(alternatives),
                _ => return Err(GlobError::OpenBraces),
            }
        }
    }

    /// After the `[`. A `]` that comes first is meant as itself.
    fn class(&mut self) -> Result<ByteSet, GlobError> {
        let mut set = ByteSet::default();
        let negated = matches!(self.rest.first(), Some(b'!' | b'^'));
        if negated {
            self.next();
        }
        let mut first = true;
        loop {
            let low = match self.next().ok_or(GlobError::OpenClass)? {
                b']' if !first => break,
                b'\\' => self.next().ok_or(GlobError::LoneEscape)?,
                plain => plain,
            };
            first = false;
            let high = self.range_end()?.unwrap_or(low);
            if high < low {
                return Err(GlobError::BadClass);
            }
            (low..=high).for_each(|b| set.insert(b));
        }
        if set.is_empty() {
            return Err(GlobError::BadClass);
        }
        let mut set = if negated { set.complement() } else { set };
        set.remove(b'/');
        Ok(set)
    }

    /// The end of a range, where a `-` that is not the class's last byte follows.
    fn range_end(&mut self) -> Result<Option<u8>, GlobError> {
        if self.rest.first() != Some(&b'-') || matches!(self.rest.get(1), None | Some(b']')) {
            return Ok(None);
        }
        self.next();
        match self.next() {
            Some(b'\\') => self.next().map(Some).ok_or(GlobError::LoneEscape),
            end => Ok(end),
        }
    }
}

fn component_bytes(component: &Component) -> usize {
    match component {
        Component::Plain(plain) => 1 + plain.len(),
        Component::Any => 0,
        Component::Wild(nodes) => 1 + sequence_bytes(nodes),
    }
}

fn sequence_bytes(nodes: &[Node]) -> usize {
    let of = |node: &Node| match node {
        Node::Byte(_) => 1,
        Node::One | Node::Run | Node::Class(_) => 0,
        Node::Either(alternatives) => alternatives.iter().map(|a| sequence_bytes(a)).min().unwrap_or(0),
    };
    nodes.iter().map(of).sum()
}

fn emit(components: &[Component]) -> Result<Vec<Step>, GlobError> {
    let mut steps = Vec::new();
    for (i, component) in components.iter().enumerate() {
        match component {
            Component::Plain(plain) => {
                steps.push(Step::Byte(b'/'));
                steps.extend(plain.iter().map(|b| Step::Byte(*b)));
            }
            Component::Wild(nodes) => {
                steps.push(Step::Byte(b'/'));
                emit_sequence(&mut steps, nodes);
            }
            Component::Any => emit_any(&mut steps, i + 1 == components.len()),
        }
        if steps.len() > Glob::STATES_MAX {
            return Err(GlobError::TooComplex);
        }
    }
    steps.push(Step::Accept);
    Ok(steps)
}

/// Any number of components; as the glob's end at least one, so that `/a/**` means what is below `/a`.
fn emit_any(steps: &mut Vec<Step>, at_least_one: bool) {
    let start = steps.len();
    let body = if at_least_one { start } else { start + 1 };
    let end = body + 4;
    if !at_least_one {
        steps.push(Step::Split(body, end));
    }
    steps.extend([Step::Byte(b'/'), Step::NotSlash, Step::Split(body + 1, body + 3), Step::Split(body, end)]);
}

fn emit_sequence(steps: &mut Vec<Step>, nodes: &[Node]) {
    for node in nodes {
        match node {
            Node::Byte(byte) => steps.push(Step::Byte(*byte)),
            Node::One => steps.push(Step::NotSlash),
            Node::Class(set) => steps.push(Step::Class(Box::new(*set))),
            Node::Run => {
                let start = steps.len();
                steps.extend([Step::Split(start + 1, start + 3), Step::NotSlash, Step::Jump(start)]);
            }
            Node::Either(alternatives) => emit_either(steps, alternatives),
        }
    }
}

fn emit_either(steps: &mut Vec<Step>, alternatives: &[Vec<Node>]) {
    let mut jumps = Vec::new();
    for (i, alternative) in alternatives.iter().enumerate() {
        let last = i + 1 == alternatives.len();
        let split = steps.len();
        if !last {
            steps.push(Step::Split(split + 1, split + 1));
        }
        emit_sequence(steps, alternative);
        if !last {
            jumps.push(steps.len());
            steps.push(Step::Jump(0));
            steps[split] = Step::Split(split + 1, steps.len());
        }
    }
    let end = steps.len();
    for jump in jumps {
        steps[jump] = Step::Jump(end);
    }
}
