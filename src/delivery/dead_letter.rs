//! What is added to an event that the sink would not take: the extensions that Knative's dead letters have.

use bytes::Bytes;
use cloudevents::message::MessageAttributeValue;
use http::Uri;

use crate::event::Extension;
use crate::sink::{BODY_START, SinkResponse};

/// Stands for a failure without a status.
const NO_STATUS: u16 = 500;

/// Why an event is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The status of the last answer; 500 where there was none.
    code: u16,
    /// The beginning of the last answer's body.
    data: Bytes,
}

impl DeadLetter {
    pub fn after(answer: &SinkResponse) -> Self {
        match answer {
            SinkResponse::Refused { status, body_start, .. } => {
                Self { code: status.as_u16(), data: body_start.clone() }
            }
            // The sink has answered so, and named the event among those that failed. Copied, because a dead letter can be
            // kept for long and would keep the whole body.
            SinkResponse::Accepted { status, body, .. } => {
                Self { code: status.as_u16(), data: Bytes::copy_from_slice(&body[..body.len().min(BODY_START)]) }
            }
            SinkResponse::Failed { .. } => Self { code: NO_STATUS, data: Bytes::new() },
        }
    }

    /// `knativeerrordest`, `knativeerrorcode` and, where there is some, `knativeerrordata`.
    pub fn extensions(&self, destination: &Uri) -> Vec<Extension> {
        let mut extensions = vec![
            ("knativeerrordest".to_owned(), MessageAttributeValue::String(destination.to_string())),
            ("knativeerrorcode".to_owned(), MessageAttributeValue::Integer(self.code.into())),
        ];
        if !self.data.is_empty() {
            extensions.push(("knativeerrordata".to_owned(), MessageAttributeValue::Binary(self.data.to_vec())));
        }
        extensions
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::sink::{BodyEnd, TransportError};

    #[test]
    fn a_dead_letter_keeps_the_beginning_of_a_long_answer_and_lets_go_of_the_rest() {
        let body = Bytes::from(vec![b'x'; 100_000]);
        let answer = SinkResponse::Accepted { status: StatusCode::OK, body, end: BodyEnd::Whole };
        let letter = DeadLetter::after(&answer);
        assert_eq!((letter.code, letter.data.len()), (200, BODY_START));
        let SinkResponse::Accepted { body, .. } = answer else { unreachable!() };
        assert!(body.is_unique(), "the whole answer is kept for as long as the letter");
    }

    #[test]
    fn a_failure_without_an_answer_is_code_500_and_has_no_data() {
        let letter =
            DeadLetter::after(&SinkResponse::Failed { error: TransportError::Timeout, message: "late".to_owned() });
        let extensions = letter.extensions(&Uri::from_static("http://sink.example/"));
        let names: Vec<&str> = extensions.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["knativeerrordest", "knativeerrorcode"]);
        assert_eq!(extensions[1].1, MessageAttributeValue::Integer(500));
    }
}
