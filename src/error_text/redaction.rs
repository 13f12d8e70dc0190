//! What a text from outside must not show: credentials that it repeats, in the forms in which services, proxies and libraries write
//! them. Pure.
//!
//! Contract:
//! - Of a URL, the user, the password and the query are left out; all of it where its `@` or its slashes are missing and a user and a
//!   password may be in it. Only a password that begins like a port, with at most five digits and a slash, is taken for one.
//! - The value of a name that ends in `token`, `password`, `secret` or the like is left out, in `name=value`, `name: value`, JSON, XML and
//!   headers, percent-encoded too, and as programs print values: `name => value`, `name:[value]`, `name: Some("value")`, `name: b'value'`.
//! - A run of letters and digits is left out that is too long and too mixed to be a name: a session token, or a part of a signed one.
//!
//! A text that has none of them stays as it is.

/// Stands for what is left out.
pub(crate) const REDACTED: &str = "[redacted]";

/// How names of secrets end, without the hyphens and underscores that people put into them.
const SECRET_NAMES: [&str; 11] = [
    "token",
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "secret",
    "authorization",
    "accesskey",
    "secretkey",
    "apikey",
    "privatekey",
];

/// How names end that are none where a blank follows their colon and no hyphen or underscore is in them: `unexpected token: }`, and codes of
/// errors such as `ExpiredToken: the token has expired`.
const PROSE: [&str; 2] = ["token", "secret"];

/// Stand before the credentials themselves: in a header, and where a program prints a value of its own.
const BEFORE_VALUES: [&str; 14] = [
    "bearer ",
    "basic ",
    "digest ",
    "negotiate ",
    "ntlm ",
    "token ",
    "apikey ",
    "aws4-hmac-sha256 ",
    "some(",
    "secret(",
    "b'",
    "b\"",
    "u'",
    "u\"",
];

/// Open a value, or belong to its separator.
const OPENERS: [char; 8] = [' ', '"', '\'', '\\', '[', '(', '=', '>'];

/// Percent-encoded `:` and `=`, in small letters.
const ENCODED_SEPARATORS: [&str; 2] = ["%3a", "%3d"];

/// End a URL, and what is quoted.
const QUOTES: [char; 5] = ['"', '\'', '`', '<', '>'];

/// Of the sentence that a URL stands in, if it is its last letter.
const PUNCTUATION: [char; 6] = ['.', ',', ':', ';', ')', '}'];

/// The digits of a port.
const LONGEST_PORT: usize = 5;

/// A run of this many characters can be a token; names of tables end at 255 characters, but hardly mix capitals and digits.
const OPAQUE: usize = 100;

/// The text without credentials.
pub(super) fn without_secrets(text: &str) -> String {
    without_opaque_runs(&without_named_values(&without_secrets_of_urls(text)))
}

/// Every URL in the text without user, password and query.
fn without_secrets_of_urls(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    // In it everything is where it is in the text.
    let small = text.to_ascii_lowercase();
    while let Some(start) = start_of_url(&small[text.len() - rest.len()..]) {
        let (before, behind) = rest.split_at(start);
        // A password may hold any character, so the last `@` counts.
        let run = &behind[..end_of_url(behind)];
        let address = run.rfind('@').map_or(0, |at| at + 1);
        let end = start_of_another(&run[address..]).map_or(run.len(), |at| address + at);
        let (mut url, mut after) = behind.split_at(end);
        let (user, address) = url.rsplit_once('@').map_or((None, url), |(user, address)| (Some(user), address));
        let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
        shown.push_str(before);
        if hides_user(address) {
            // Where the password ends nobody knows; a blank may be in it.
            let quoted = after.find(QUOTES).map_or(after, |quote| &after[..quote]);
            if let Some(at) = quoted.find('@') {
                url = &behind[..url.len() + at];
                after = &behind[url.len()..];
                after = &after[end_of_url(after)..];
            }
            shown.push_str(REDACTED);
            shown.push_str(&url[url.trim_end_matches(PUNCTUATION).len()..]);
        } else {
            shown.push_str(user.map_or("", |_| "[redacted]@"));
            shown.push_str(path);
            shown.push_str(query.map_or("", |_| "?[redacted]"));
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// Where the next URL begins behind its scheme and slashes, of which some may be missing, in a text without capitals.
fn start_of_url(small: &str) -> Option<usize> {
    let schemes = ["http:", "https:"].into_iter().filter_map(|scheme| Some(small.find(scheme)? + scheme.len()));
    let without_slashes = |start: usize| small.len() - small[start..].trim_start_matches(['/', '\\']).len();
    let any = small.find("//").map(|at| at + "//".len());
    schemes.map(without_slashes).chain(any).min()
}

/// How long a URL is that the text begins with, behind its scheme.
fn end_of_url(text: &str) -> usize {
    text.find(|letter: char| letter.is_whitespace() || QUOTES.contains(&letter)).unwrap_or(text.len())
}

/// Where in an address another URL begins, such as the next one of a list.
fn start_of_another(address: &str) -> Option<usize> {
    let small = address.to_ascii_lowercase();
    ["http:", "https:", "http//", "https//"].into_iter().filter_map(|scheme| small.find(scheme)).min()
}

/// Whether an address is none: behind the colon stands no port, so that it may be a user and a password whose `@` is missing.
fn hides_user(address: &str) -> bool {
    let authority = address.split(['/', '?', '#', '\\']).next().unwrap_or_default().trim_end_matches(PUNCTUATION);
    let behind_host = match authority.strip_prefix('[').and_then(|address| address.split_once(']')) {
        Some((_, behind)) => behind,
        None => authority.find(':').map_or("", |at| &authority[at..]),
    };
    let port = behind_host.strip_prefix(':').unwrap_or(behind_host);
    let is_port = port.len() <= LONGEST_PORT && port.bytes().all(|digit| digit.is_ascii_digit());
    // A text may come through here twice.
    !is_port && port != REDACTED
}

/// The text without the values of names of secrets. What was taken for a value can be the name of another one.
fn without_named_values(text: &str) -> String {
    let (mut shown, mut at) = (String::with_capacity(text.len()), 0);
    // In it everything is where it is in the text.
    let small = text.to_ascii_lowercase();
    while let Some((before, behind)) = separator_in(&small, at) {
        let (name, separator, rest) = (&small[..before], &small[before..behind], &small[behind..]);
        let value = if is_secret(name, separator, rest) { value_at(rest) } else { None };
        let (start, end) = value.map_or((behind, behind), |(start, end)| (behind + start, behind + end));
        shown.push_str(&text[at..start]);
        if end > start {
            shown.push_str(REDACTED);
        }
        at = end;
    }
    shown.push_str(&text[at..]);
    shown
}

/// Where the next separator of a name and its value begins and ends, in a text without capitals.
fn separator_in(small: &str, from: usize) -> Option<(usize, usize)> {
    let mut candidates = small[from..].match_indices([':', '=', '>', '%']).map(|(at, sign)| (from + at, sign));
    candidates.find_map(|(at, sign)| match sign {
        "%" => ENCODED_SEPARATORS.iter().find(|sign| small[at..].starts_with(**sign)).map(|sign| (at, at + sign.len())),
        _ => Some((at, at + sign.len())),
    })
}

/// Whether what stands before a separator names a secret, in a text without capitals. Only an element's name has a `>` behind it.
fn is_secret(before: &str, separator: &str, behind: &str) -> bool {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let bare = before.trim_end();
    let is_quoted = bare.ends_with(['"', '\'']);
    let name = bare.trim_end_matches(['"', '\'', '\\']);
    let start = name.trim_end_matches(is_of_name).len();
    let (outside, name) = name.split_at(start);
    let is_word = !name.contains(['-', '_']);
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let is_of_prose = separator == ":" && behind.starts_with(' ') && !is_quoted && is_word && !is_printed(behind);
    let is_prose = is_of_prose && PROSE.iter().any(|end| name.ends_with(end));
    let without_prefix = outside.strip_suffix(':').map(|outside| outside.trim_end_matches(is_of_name));
    let is_separator = separator != ">" || without_prefix.unwrap_or(outside).ends_with('<');
    is_separator && !is_prose && SECRET_NAMES.iter().any(|secret| name.ends_with(secret))
}

/// Whether a value follows as programs print them, which no prose does.
fn is_printed(behind: &str) -> bool {
    let value = behind.trim_start();
    value.starts_with(['"', '\'', '['])
        || BEFORE_VALUES.iter().any(|word| !word.ends_with(' ') && value.starts_with(word))
}

/// Where the value begins and ends that follows a name's separator, without what stands around it, in a text without capitals; nothing
/// where there is none.
fn value_at(behind: &str) -> Option<(usize, usize)> {
    let mut start = 0;
    loop {
        // A text may come through here twice.
        let opener = behind[start..].chars().next().filter(|letter| OPENERS.contains(letter));
        let word = BEFORE_VALUES.iter().find(|word| behind[start..].starts_with(**word));
        match (opener, word) {
            _ if behind[start..].starts_with(REDACTED) => return Some((start, start + REDACTED.len())),
            (Some(opener), _) => start += opener.len_utf8(),
            (None, Some(word)) => start += word.len(),
            (None, None) => break,
        }
    }
    let end = behind[start..].find(|letter: char| letter.is_whitespace() || "\"'\\,;&})]<".contains(letter));
    let value = &behind[start..end.map_or(behind.len(), |length| start + length)];
    // It may be a name itself.
    let end = start + value.trim_end_matches([':', '=']).len();
    (end > start).then_some((start, end))
}

/// The text without runs that look like tokens.
fn without_opaque_runs(text: &str) -> String {
    let is_of_run = |letter: char| letter.is_ascii_alphanumeric() || "+/=_-.%".contains(letter);
    let mut shown = String::with_capacity(text.len());
    for piece in text.split_inclusive(|letter| !is_of_run(letter)) {
        let run = piece.trim_end_matches(|letter| !is_of_run(letter));
        shown.push_str(if is_opaque(run) { REDACTED } else { run });
        shown.push_str(&piece[run.len()..]);
    }
    shown
}

fn is_opaque(run: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| run.as_bytes().iter().any(kind);
    run.len() >= OPAQUE && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "IQoJb3JpZ2luX2VjEJr";

    #[test]
    fn a_url_is_shown_without_user_password_and_query() {
        for (text, shown) in [
            ("http://host/path", "http://host/path"),
            ("no http://u:p@host:1/a?b=c#d here", "no http://[redacted]@host:1/a?[redacted] here"),
            ("`https://u:p@ss/w?r@d@host`", "`https://[redacted]@host`"),
            ("(http://a?x) and \"http://b@c\"", "(http://a?[redacted] and \"http://[redacted]@c\""),
            ("://", "://"),
            ("HTTP:u:p@host and https:/u:p@host", "HTTP:[redacted]@host and https:/[redacted]@host"),
        ] {
            assert_eq!(without_secrets(text), shown, "{text}");
        }
    }

    #[test]
    fn a_password_is_left_out_whatever_is_missing_in_its_url() {
        for (text, shown) in [
            ("at http://user:pass1host/: no such host", "at http://[redacted]: no such host"),
            ("at http://user:pass1host, twice", "at http://[redacted], twice"),
            ("'http://user:pa/ss1host'", "'http://[redacted]'"),
            ("http://user:pa ss@host and more", "http://[redacted] and more"),
            ("'http://user:pass' and me@home", "'http://[redacted]' and me@home"),
            ("http//user:pass1host/", "http//[redacted]"),
            ("http:/user:pass1host/ http:user:pass", "http:/[redacted] http:[redacted]"),
            ("http://user:123456", "http://[redacted]"),
            ("http:/a_https:/user:pass1host/o", "http:/a_https:/[redacted]"),
            ("http://a,http//user:pass1host/", "http://a,http//[redacted]"),
            ("http://u:p@xhttp:w@host", "http://[redacted]@host"),
            ("http://@user:pass", "http://[redacted]"),
        ] {
            assert_eq!(without_secrets(text), shown, "{text}");
        }
        for text in [
            "cannot reach http://host:8080: refused",
            "(http://[::1]:8080/a:b), http://[::1]; https://host.",
            "http://10.0.0.1:65535/x:y",
            "http: no route",
            "https:",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }

    #[test]
    fn the_value_of_a_secrets_name_is_left_out_however_it_is_written() {
        for before in [
            "x-amz-security-token:",
            "X-Amz-Security-Token: ",
            "AWS_SESSION_TOKEN=",
            "\"SessionToken\": \"",
            "{\"Token\":\"",
            "{\\\"token\\\": \\\"",
            "'secret_access_key' = '",
            "aws_secret_access_key = ",
            "SecretAccessKey=",
            "password: ",
            "authorization: Bearer ",
            "Authorization: Basic ",
            "proxy-authorization:",
            "a&access_token=",
            "token=",
            "db_pwd=",
            "passphrase: ",
            "Authorization: Token ",
            "authorization: Negotiate ",
            "password => ",
            "'password' => '",
            "password := ",
            "X-Amz-Security-Token%3D",
            "%26access_token%3d",
        ] {
            let text = format!("failed {before}{TOKEN} more");
            let shown = without_secrets(&text);
            assert_eq!(shown, format!("failed {before}{REDACTED} more"), "{text}");
            assert_eq!(without_secrets(&shown), shown);
        }
        let encoded = format!("failed password%3A%20{TOKEN} more");
        assert_eq!(without_secrets(&encoded), format!("failed password%3A{REDACTED} more"));
    }

    /// Of XML, of Go's and Node's headers, of Rust and of Python.
    #[test]
    fn the_value_of_a_secrets_name_is_left_out_whatever_stands_around_it() {
        for (before, behind) in [
            ("<SessionToken>", "</SessionToken>"),
            ("<sts:SecretAccessKey>", "</sts:SecretAccessKey>"),
            ("map[Authorization:[Bearer ", "] Host:[a]]"),
            ("{ authorization: [ 'Bearer ", "' ] }"),
            ("{\"token\":[\"", "\"]}"),
            ("Settings { token: Some(\"", "\"), more: 1 }"),
            ("{ token: \"", "\" }"),
            ("password: Secret(\"", "\")"),
            ("{'password': b'", "'}"),
            ("{u'password': u'", "'}"),
        ] {
            let text = format!("failed {before}{TOKEN}{behind} more");
            let shown = format!("failed {before}{REDACTED}{behind} more");
            assert_eq!(without_secrets(&text), shown);
            assert_eq!(without_secrets(&shown), shown);
        }
    }

    #[test]
    fn a_long_mixed_run_is_left_out_and_a_long_name_is_not() {
        let token = TOKEN.repeat(10);
        assert_eq!(without_secrets(&format!("got <{token}>, no")), "got <[redacted]>, no");
        for name in ["a".repeat(255), "orders_1.eu-".repeat(20), "0123456789abcdef".repeat(8), "/var/lib/x9".repeat(20)]
        {
            assert_eq!(without_secrets(&name), name);
        }
    }

    #[test]
    fn a_text_without_secrets_stays_as_it_is() {
        for text in [
            "",
            ":",
            "=",
            "ValidationException: 1 validation error detected: Value '' at 'tableName' failed",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-11-01T00:00:00.000",
            "unexpected token: } in line 1",
            "MissingAuthenticationToken: says AWS",
            "ExpiredToken: the token has expired",
            "The security token included in the request is invalid. (request ABCDEFGHIJ0123456789)",
            "cannot read /var/run/secrets/token: No such file or directory (os error 2)",
            "é: ü=ß token=",
            "set SINK_TOKEN_FILE and AWS_SECRET_ACCESS_KEY; the secret access key is missing",
            "no token -> no call, 1 > 0 and Token>",
            "at 100%3d",
        ] {
            assert_eq!(without_secrets(text), text);
        }
    }
}
