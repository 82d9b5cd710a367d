//! Errors in words.

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Serai's own word for an error, such as `JOB_UNKNOWN` or `INVALID_REQUEST`; `None` for an error that Serai did not send.
pub fn reason(error: &Status) -> Option<String> {
    error.get_details_error_info().filter(|info| info.domain == "serai").map(|info| info.reason)
}

/// What went wrong, in one line: the code of the error, then the words for a person.
pub fn explain(error: &Status) -> String {
    let words: Vec<&str> = error.message().split_whitespace().collect();
    let mut line = format!("{}: {}", code_name(error.code()), words.join(" "));
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        line.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    line
}

/// As gRPC spells it: `NOT_FOUND`.
pub fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

/// The way to the server broke, or the server is being started anew; the call may be made again.
pub(crate) fn is_interrupted(error: &Status) -> bool {
    match error.code() {
        Code::Unavailable => true,
        // So tonic tells of streams that were reset; Serai's own errors carry their reason.
        Code::Internal | Code::Unknown | Code::Cancelled => reason(error).is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{code_name, explain};
    use tonic::{Code, Status};

    #[test]
    fn codes_are_spelled_as_in_grpc() {
        for (code, name) in [(Code::NotFound, "NOT_FOUND"), (Code::Ok, "OK"), (Code::FailedPrecondition, "FAILED_PRECONDITION")] {
            assert_eq!(code_name(code), name);
        }
    }

    #[test]
    fn an_explanation_is_one_line() {
        assert_eq!(explain(&Status::not_found("no\nsuch job")), "NOT_FOUND: no such job");
    }
}
