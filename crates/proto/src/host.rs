//! What an agent says of its host: system, names, addresses, and its place in a cloud. Words of the host's own, believed as
//! far as the host is.

use std::sync::Arc;

use crate::codec::{Reader, Result, Writer};
use crate::limit::{HOST_ADDRESSES_MAX, WORD_BYTES_MAX};

/// What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// As the host calls itself.
    pub name: Arc<str>,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os: Arc<str>,
    /// The kernel's release.
    pub kernel: Arc<str>,
    /// Such as `x86_64`.
    pub architecture: Arc<str>,
    /// The first is the one by which it reaches the manager.
    pub addresses: Vec<Arc<str>>,
    pub cloud: Option<CloudPlace>,
}

/// Where in a cloud it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudPlace {
    /// `aws`
    pub provider: Arc<str>,
    pub account: Arc<str>,
    pub region: Arc<str>,
    pub zone: Arc<str>,
    pub instance: Arc<str>,
    /// What the instance was made of: an AMI.
    pub image: Arc<str>,
    /// Such as `t3.micro`.
    pub machine: Arc<str>,
}

const WHAT: &str = "host";

impl Host {
    pub(crate) fn write(&self, w: &mut Writer) {
        for word in [&self.name, &self.os, &self.kernel, &self.architecture] {
            w.text(word, WORD_BYTES_MAX);
        }
        w.list(&self.addresses, HOST_ADDRESSES_MAX, |w, address| w.text(address, WORD_BYTES_MAX));
        w.option(self.cloud.as_ref(), |w, cloud| {
            let CloudPlace { provider, account, region, zone, instance, image, machine } = cloud;
            for word in [provider, account, region, zone, instance, image, machine] {
                w.text(word, WORD_BYTES_MAX);
            }
        });
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: word(r)?,
            os: word(r)?,
            kernel: word(r)?,
            architecture: word(r)?,
            addresses: r.list(WHAT, HOST_ADDRESSES_MAX, word)?,
            cloud: r.option(WHAT, |r| {
                Ok(CloudPlace {
                    provider: word(r)?,
                    account: word(r)?,
                    region: word(r)?,
                    zone: word(r)?,
                    instance: word(r)?,
                    image: word(r)?,
                    machine: word(r)?,
                })
            })?,
        })
    }
}

fn word(r: &mut Reader<'_>) -> Result<Arc<str>> {
    Ok(r.text(WHAT, WORD_BYTES_MAX)?.into())
}
