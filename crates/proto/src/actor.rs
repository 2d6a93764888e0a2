//! An actor as bytes: part of a change.
//!
//! Two bytes say which parts are known; pid and confidence always follow, then the known parts in the order of the type.

use tally_types::{Actor, Confidence, UnknownPart};

use crate::code::Code;
use crate::codec::{DecodeError, Reader, Result, Writer};
use crate::limit::{
    CMDLINE_BYTES_MAX, EXE_BYTES_MAX, NAME_BYTES_MAX, UNKNOWN_PART_BYTES_MAX, UNKNOWN_PARTS_MAX, UNKNOWN_WHY_BYTES_MAX,
};

const WHAT: &str = "actor";
/// How many parts may be unknown.
const PARTS: usize = 9;

pub(crate) fn write(w: &mut Writer, actor: &Actor) {
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
    w.list(&actor.unknown, UNKNOWN_PARTS_MAX, |w, unknown| {
        w.text(&unknown.part, UNKNOWN_PART_BYTES_MAX);
        w.text(&unknown.why, UNKNOWN_WHY_BYTES_MAX);
    });
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
        session,
        confidence,
        unknown,
    })
}
