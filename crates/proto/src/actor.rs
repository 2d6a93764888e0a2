//! An actor as bytes: part of a change.
//!
//! A number says which parts are known; pid and confidence always follow, then the known parts in the order in which their
//! bits were given out.

use tally_types::{Actor, Ancestor, Confidence, Container, Remote, RemoteFrom, UnknownPart};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{
    ANCESTORS_BYTES_MAX, ANCESTORS_MAX, CGROUP_BYTES_MAX, CMDLINE_BYTES_MAX, CONTAINER_ID_BYTES_MAX,
    CONTAINER_NAME_BYTES_MAX, EXE_BYTES_MAX, IMAGE_BYTES_MAX, NAME_BYTES_MAX, REMOTE_BYTES_MAX, TTY_BYTES_MAX,
    UNKNOWN_PART_BYTES_MAX, UNKNOWN_PARTS_MAX, UNKNOWN_WHY_BYTES_MAX,
};

const WHAT: &str = "actor";
/// How many parts may be unknown.
const PARTS: usize = 14;

pub(crate) fn write(w: &mut Writer, actor: &Actor) {
    let ancestors = kept_ancestors(&actor.ancestors);
    let known: [bool; PARTS] = [
        actor.exe.is_some(),
        actor.cmdline.is_some(),
        actor.uid.is_some(),
        actor.user.is_some(),
        actor.login_uid.is_some(),
        actor.login_user.is_some(),
        actor.ppid.is_some(),
        actor.parent_exe.is_some(),
        actor.session.is_some(),
        !ancestors.is_empty(),
        actor.tty.is_some(),
        actor.cgroup.is_some(),
        actor.container.is_some(),
        actor.remote.is_some(),
    ];
    let bits = known.iter().enumerate().map(|(at, known)| u64::from(*known) << at).sum();
    w.number(bits);
    w.u8(actor.confidence.code());
    w.number(u64::from(actor.pid));
    let number = |w: &mut Writer, value: Option<u32>| {
        if let Some(value) = value {
            w.number(u64::from(value));
        }
    };
    let bytes = |w: &mut Writer, value: Option<&[u8]>, max: usize| {
        if let Some(value) = value {
            w.bytes(value, max);
        }
    };
    let name = |w: &mut Writer, value: Option<&str>| {
        if let Some(value) = value {
            w.text(value, NAME_BYTES_MAX);
        }
    };
    bytes(w, actor.exe.as_deref(), EXE_BYTES_MAX);
    bytes(w, actor.cmdline.as_deref(), CMDLINE_BYTES_MAX);
    number(w, actor.uid);
    name(w, actor.user.as_deref());
    number(w, actor.login_uid);
    name(w, actor.login_user.as_deref());
    number(w, actor.ppid);
    bytes(w, actor.parent_exe.as_deref(), EXE_BYTES_MAX);
    number(w, actor.session);
    if !ancestors.is_empty() {
        write_ancestors(w, ancestors);
    }
    if let Some(tty) = &actor.tty {
        w.text(tty, TTY_BYTES_MAX);
    }
    if let Some(cgroup) = &actor.cgroup {
        w.text(cgroup, CGROUP_BYTES_MAX);
    }
    if let Some(container) = &actor.container {
        write_container(w, container);
    }
    if let Some(remote) = &actor.remote {
        w.text(&remote.address, REMOTE_BYTES_MAX);
        w.u8(remote.from.code());
    }
    w.list(&actor.unknown, UNKNOWN_PARTS_MAX, |w, unknown| {
        w.text(&unknown.part, UNKNOWN_PART_BYTES_MAX);
        w.text(&unknown.why, UNKNOWN_WHY_BYTES_MAX);
    });
}

/// The nearest that have room.
fn kept_ancestors(ancestors: &[Ancestor]) -> &[Ancestor] {
    let mut bytes = 0;
    let has_room = |ancestor: &&Ancestor| {
        bytes += 8 + ancestor.exe.as_ref().map_or(0, |exe| exe.len().min(EXE_BYTES_MAX));
        bytes <= ANCESTORS_BYTES_MAX
    };
    &ancestors[..ancestors.iter().take(ANCESTORS_MAX).take_while(has_room).count()]
}

fn write_ancestors(w: &mut Writer, ancestors: &[Ancestor]) {
    w.list(ancestors, ANCESTORS_MAX, |w, ancestor| {
        w.number(u64::from(ancestor.pid));
        w.option(ancestor.exe.as_deref(), |w, exe| w.bytes(exe, EXE_BYTES_MAX));
    });
}

fn read_ancestors(r: &mut Reader<'_>) -> Result<Vec<Ancestor>> {
    let ancestors = r.list("ancestors", ANCESTORS_MAX, |r| {
        let pid = r.u32(WHAT)?;
        let exe = r.option(WHAT, |r| r.bytes(WHAT, EXE_BYTES_MAX).map(Into::into))?;
        Ok(Ancestor { pid, exe })
    })?;
    // That there are none, and more than a writer keeps, is told otherwise.
    let is_kept = !ancestors.is_empty() && kept_ancestors(&ancestors).len() == ancestors.len();
    if is_kept { Ok(ancestors) } else { Err(DecodeError::NotCanonical("ancestors")) }
}

pub(crate) fn write_container(w: &mut Writer, container: &Container) {
    w.text(&container.id, CONTAINER_ID_BYTES_MAX);
    w.option(container.name.as_deref(), |w, name| w.text(name, CONTAINER_NAME_BYTES_MAX));
    w.option(container.image.as_deref(), |w, image| w.text(image, IMAGE_BYTES_MAX));
}

pub(crate) fn read_container(r: &mut Reader<'_>) -> Result<Container> {
    const WHAT: &str = "container";
    Ok(Container {
        id: r.text(WHAT, CONTAINER_ID_BYTES_MAX)?.into(),
        name: r.option(WHAT, |r| r.text(WHAT, CONTAINER_NAME_BYTES_MAX).map(Into::into))?,
        image: r.option(WHAT, |r| r.text(WHAT, IMAGE_BYTES_MAX).map(Into::into))?,
    })
}

pub(crate) fn read(r: &mut Reader<'_>) -> Result<Actor> {
    let bits = r.number_max(WHAT, (1 << PARTS) - 1)?;
    let known = |part: usize| bits >> part & 1 == 1;
    let confidence = Confidence::from_code(r.u8(WHAT)?)?;
    let pid = r.u32("pid")?;
    // In the order of writing: a part that is not known takes no bytes.
    let exe = known(0).then(|| r.bytes(WHAT, EXE_BYTES_MAX)).transpose()?;
    let cmdline = known(1).then(|| r.bytes(WHAT, CMDLINE_BYTES_MAX)).transpose()?;
    let uid = known(2).then(|| r.u32(WHAT)).transpose()?;
    let user = known(3).then(|| r.text(WHAT, NAME_BYTES_MAX)).transpose()?;
    let login_uid = known(4).then(|| r.u32(WHAT)).transpose()?;
    let login_user = known(5).then(|| r.text(WHAT, NAME_BYTES_MAX)).transpose()?;
    let ppid = known(6).then(|| r.u32(WHAT)).transpose()?;
    let parent_exe = known(7).then(|| r.bytes(WHAT, EXE_BYTES_MAX)).transpose()?;
    let session = known(8).then(|| r.u32(WHAT)).transpose()?;
    let ancestors = if known(9) { read_ancestors(r)? } else { Vec::new() };
    let tty = known(10).then(|| r.text(WHAT, TTY_BYTES_MAX)).transpose()?;
    let cgroup = known(11).then(|| r.text(WHAT, CGROUP_BYTES_MAX)).transpose()?;
    let container = known(12).then(|| read_container(r)).transpose()?;
    let remote = known(13).then(|| read_remote(r)).transpose()?;
    let unknown = r.list(WHAT, UNKNOWN_PARTS_MAX, |r| {
        let part = r.text(WHAT, UNKNOWN_PART_BYTES_MAX)?.into();
        let why = r.text(WHAT, UNKNOWN_WHY_BYTES_MAX)?.into();
        Ok::<_, DecodeError>(UnknownPart { part, why })
    })?;
    Ok(Actor {
        pid,
        exe: exe.map(Into::into),
        cmdline: cmdline.map(Into::into),
        uid,
        user: user.map(Into::into),
        login_uid,
        login_user: login_user.map(Into::into),
        ppid,
        parent_exe: parent_exe.map(Into::into),
        ancestors,
        session,
        tty: tty.map(Into::into),
        cgroup: cgroup.map(Into::into),
        container,
        remote,
        confidence,
        unknown,
    })
}

fn read_remote(r: &mut Reader<'_>) -> Result<Remote> {
    Ok(Remote { address: r.text(WHAT, REMOTE_BYTES_MAX)?.into(), from: RemoteFrom::from_code(r.u8(WHAT)?)? })
}
