//! How an error looks: what, where, why, what to do now, and its stable code.

use lakehold_proto::fault::Fault;

use crate::output::{ErrorDocument, Format, colours, escaped, say};

/// Tells a fault on standard error, for people or, with `-o json`, for programs.
pub fn report(fault: &Fault, format: Format) {
    say(&match format {
        Format::Json => {
            serde_json::to_string(&ErrorDocument::from(fault)).unwrap_or_else(|_| text(fault, false))
        }
        _ => text(fault, colours()),
    });
}

fn text(fault: &Fault, colour: bool) -> String {
    let (red, bold, off) = if colour { ("\x1b[31;1m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
    let mut text = format!("{red}error{off}[{}]: {bold}{}{off}", fault.code, escaped(&fault.context));
    text.push_str(&format!("\n  {}", escaped(&fault.detail)));
    if let Some(http) = &fault.http {
        let code = http.code.as_deref().map_or(String::new(), |code| format!(" {code}"));
        let id = http.request_id.as_deref().map_or(String::new(), |id| format!(", request id {id}"));
        text.push_str(&format!("\n  HTTP {}{}", http.status, escaped(&format!("{code}{id}"))));
    }
    if let Some(hint) = fault.hint.as_deref().filter(|hint| !hint.is_empty()) {
        text.push_str(&format!("\n  hint: {}", escaped(hint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use lakehold_proto::fault::{Class, HttpRefusal};

    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do() {
        let fault =
            Fault::new(Class::Denied, "http.denied", "list jobs of prod", "the token may not: \x1b[31m")
                .hint("grant it")
                .http(HttpRefusal {
                    status: 403,
                    code: Some("PERMISSION_DENIED".into()),
                    request_id: Some("r1".into()),
                });
        let expected = "error[http.denied]: list jobs of prod\n  the token may not: \\u{1b}[31m\n  \
                        HTTP 403 PERMISSION_DENIED, request id r1\n  hint: grant it";
        assert_eq!(text(&fault, false), expected);
        assert_eq!(ErrorDocument::from(&fault).exit_code, 7);
    }
}
