//! From a glob's text to its shape or automaton.

use super::automaton::{ByteSet, Step};
use super::{Glob, GlobError, Shape};

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
    let shape_of_name = if text.starts_with('/') { None } else { name_shape(&components) };
    let mut literal = Vec::new();
    for component in &components {
        let Component::Plain(plain) = component else { break };
        literal.push(b'/');
        literal.extend_from_slice(plain);
    }
    let plain = components.iter().all(|c| matches!(c, Component::Plain(_)));
    let shape = match shape_of_name {
        Some(shape) => shape,
        None if plain => Shape::Path,
        None => Shape::Automaton(emit(&components)?.into()),
    };
    let literal_bytes = components.iter().map(component_bytes).sum();
    Ok(Glob { text: text.into(), literal: literal.into(), literal_bytes, shape })
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
    let plain: Option<Vec<u8>> = nodes.iter().map(|n| if let Node::Byte(b) = n { Some(*b) } else { None }).collect();
    match plain {
        Some(plain) if matches!(&plain[..], b"." | b"..") => Err(GlobError::NotNormal),
        Some(plain) => Ok(Component::Plain(plain)),
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

/// The shape of a glob without any `/`, where it needs no automaton.
fn name_shape(components: &[Component]) -> Option<Shape> {
    match components {
        [Component::Any, Component::Plain(name)] => Some(Shape::Name(name[..].into())),
        [Component::Any, Component::Wild(nodes)] => {
            let plain = |nodes: &[Node]| -> Option<Box<[u8]>> {
                nodes.iter().map(|n| if let Node::Byte(b) = n { Some(*b) } else { None }).collect()
            };
            match &nodes[..] {
                [Node::Run, rest @ ..] => plain(rest).map(Shape::NameEnd),
                [rest @ .., Node::Run] => plain(rest).map(Shape::NameStart),
                _ => None,
            }
        }
        _ => None,
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
