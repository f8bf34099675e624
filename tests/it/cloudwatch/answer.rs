//! What the stand-in says.

/// An answer, and what becomes of it on its way.
#[derive(Clone, Debug, Default)]
pub struct FakeAnswer {
    /// The status; 0 when the connection is dropped.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether and when it arrives.
    pub fate: Fate,
    /// The error code in it, for the log.
    pub code: String,
}

/// Whether and when an answer arrives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// At once.
    #[default]
    Arrives,
    /// After so many milliseconds.
    Delayed(u64),
    /// Never: the connection breaks.
    Dropped,
}

impl FakeAnswer {
    pub(super) fn dropped() -> Self {
        Self { fate: Fate::Dropped, ..Self::default() }
    }

    /// 200 with a JSON body, or an empty one.
    pub(super) fn ok(request_id: u64, content_type: &str, body: String) -> Self {
        Self {
            status: 200,
            headers: vec![
                ("content-type".to_owned(), content_type.to_owned()),
                ("x-amzn-requestid".to_owned(), format!("00000000-0000-4000-8000-{request_id:012}")),
            ],
            body: body.into_bytes(),
            ..Self::default()
        }
    }

    pub(super) fn json_error(status: u16, code: &str, message: &str) -> Self {
        // Access refusals spell the member with a capital, as IAM's front end does.
        let member = if code.starts_with("AccessDenied") { "Message" } else { "message" };
        let mut answer = Self::ok(0, "application/x-amz-json-1.1", {
            let mut body = serde_json::Map::new();
            body.insert("__type".to_owned(), code.into());
            body.insert(member.to_owned(), message.into());
            serde_json::Value::Object(body).to_string()
        });
        answer.status = status;
        answer.code = code.to_owned();
        answer
    }

    pub(super) fn xml_error(status: u16, code: &str, message: &str) -> Self {
        let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let mut answer = Self::ok(
            0,
            "text/xml",
            format!(
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
                 <Code>{code}</Code>\n    <Message>{escaped}</Message>\n  </Error>\n  <RequestId>0</RequestId>\n</ErrorResponse>\n"
            ),
        );
        answer.status = status;
        answer.code = code.to_owned();
        answer
    }
}
