//! In which order OSSEC's own rule files are read, and which of them its shipped configuration leaves out.
//!
//! A directory of rules says neither; the order decides between rules that are equally grave. Source: the configuration that
//! OSSEC 4.3.0 ships for a server.

const NAMED: [&str; 67] = [
    "rules_config.xml",
    "pam_rules.xml",
    "sshd_rules.xml",
    "telnetd_rules.xml",
    "syslog_rules.xml",
    "arpwatch_rules.xml",
    "symantec-av_rules.xml",
    "symantec-ws_rules.xml",
    "pix_rules.xml",
    "named_rules.xml",
    "smbd_rules.xml",
    "vsftpd_rules.xml",
    "pure-ftpd_rules.xml",
    "proftpd_rules.xml",
    "ms_ftpd_rules.xml",
    "ftpd_rules.xml",
    "hordeimp_rules.xml",
    "roundcube_rules.xml",
    "wordpress_rules.xml",
    "cimserver_rules.xml",
    "vpopmail_rules.xml",
    "vmpop3d_rules.xml",
    "courier_rules.xml",
    "web_rules.xml",
    "web_appsec_rules.xml",
    "apache_rules.xml",
    "nginx_rules.xml",
    "modsecurity_rules.xml",
    "php_rules.xml",
    "mysql_rules.xml",
    "postgresql_rules.xml",
    "ids_rules.xml",
    "squid_rules.xml",
    "firewall_rules.xml",
    "apparmor_rules.xml",
    "cisco-ios_rules.xml",
    "netscreenfw_rules.xml",
    "sonicwall_rules.xml",
    "postfix_rules.xml",
    "sendmail_rules.xml",
    "imapd_rules.xml",
    "mailscanner_rules.xml",
    "dovecot_rules.xml",
    "ms-exchange_rules.xml",
    "racoon_rules.xml",
    "vpn_concentrator_rules.xml",
    "spamd_rules.xml",
    "msauth_rules.xml",
    "mcafee_av_rules.xml",
    "trend-osce_rules.xml",
    "ms-se_rules.xml",
    "zeus_rules.xml",
    "solaris_bsm_rules.xml",
    "vmware_rules.xml",
    "ms_dhcp_rules.xml",
    "asterisk_rules.xml",
    "ossec_rules.xml",
    "attack_rules.xml",
    "dropbear_rules.xml",
    "unbound_rules.xml",
    "sysmon_rules.xml",
    "opensmtpd_rules.xml",
    "exim_rules.xml",
    "openbsd-dhcpd_rules.xml",
    "dnsmasq_rules.xml",
    "cpanel_rules.xml",
    "local_rules.xml",
];

const LEFT_OUT: [&str; 20] = [
    "clam_av_rules.xml",
    "firewalld_rules.xml",
    "kesl_rules.xml",
    "last_rootlogin_rules.xml",
    "lighttpd_rules.xml",
    "linux_usbdetect_rules.xml",
    "mhn_cowrie_rules.xml",
    "mhn_dionaea_rules.xml",
    "ms1016_usbdetect_rules.xml",
    "ms_firewall_rules.xml",
    "ms_ipsec_rules.xml",
    "ms_powershell_rules.xml",
    "nsd_rules.xml",
    "openbsd_rules.xml",
    "owncloud_rules.xml",
    "policy_rules.xml",
    "proxmox-ve_rules.xml",
    "psad_rules.xml",
    "systemd_rules.xml",
    "topleveldomain_rules.xml",
];

/// Puts the files of a directory into their order. Files of one's own come last, by name; those of OSSEC that its
/// configuration leaves out are returned apart.
pub fn order(mut names: Vec<String>) -> (Vec<String>, Vec<String>) {
    names.sort();
    let (left_out, mut names): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| LEFT_OUT.contains(&&**name));
    names.sort_by_key(|name| NAMED.iter().position(|known| *known == *name).unwrap_or(NAMED.len()));
    (names, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_files_come_last() {
        let names = ["z.xml", "sshd_rules.xml", "policy_rules.xml", "a.xml", "rules_config.xml", "local_rules.xml"];
        let (order, left_out) = order(names.map(str::to_owned).into());
        assert_eq!(order, ["rules_config.xml", "sshd_rules.xml", "local_rules.xml", "a.xml", "z.xml"]);
        assert_eq!(left_out, ["policy_rules.xml"]);
    }
}
