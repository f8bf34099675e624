//! The three operations of CloudWatch Logs that a sender needs, with the rules of the API reference.

use super::ledger::{Filed, Messages};
use super::{
    DAY_MS, EVENT_OVERHEAD_BYTES, FakeAnswer, FakeCloudWatch, FakeRequest, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Stored,
};
use serde_json::{Map, Value};
use std::io::Read;

const JSON: &str = "application/x-amz-json-1.1";
/// Events may lie this far in the future.
const FUTURE_MS: i64 = 2 * 3_600_000;

pub(super) fn serve(fake: &mut FakeCloudWatch, request: &FakeRequest<'_>, action: &str) -> FakeAnswer {
    if request.method != "POST" {
        return error("UnknownOperationException", "only POST");
    }
    if request.header("content-type") != Some(JSON) {
        return error("UnknownOperationException", "wrong content type");
    }
    let body = match decoded(fake, request) {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let Ok(Value::Object(input)) = serde_json::from_slice(&body) else {
        return error("SerializationException", "the body is not a JSON object");
    };
    match action {
        "PutLogEvents" => put_log_events(fake, request, &input),
        "CreateLogStream" => create_log_stream(fake, &input),
        "CreateLogGroup" => create_log_group(fake, &input),
        _ => error("UnknownOperationException", ""),
    }
}

fn decoded(fake: &FakeCloudWatch, request: &FakeRequest<'_>) -> Result<Vec<u8>, FakeAnswer> {
    match request.header("content-encoding") {
        None => Ok(request.body.to_vec()),
        Some("gzip") if !fake.refuse_gzip => {
            let mut body = Vec::new();
            let mut reader = flate2::read::GzDecoder::new(request.body).take(64 << 20);
            match reader.read_to_end(&mut body) {
                Ok(_) => Ok(body),
                Err(_) => Err(error("MalformedHttpRequestException", "the body does not decompress")),
            }
        }
        Some(_) => Err(error("SerializationException", "unknown content encoding")),
    }
}

fn put_log_events(fake: &mut FakeCloudWatch, request: &FakeRequest<'_>, input: &Map<String, Value>) -> FakeAnswer {
    if let Err(answer) = only(input, &["logGroupName", "logStreamName", "logEvents"]) {
        return answer;
    }
    if request.header("x-amzn-logs-format") != Some("json/emf") {
        fake.violation("PutLogEvents without x-amzn-logs-format: json/emf");
    }
    let (group, stream) = match (group_name(input), stream_name(input)) {
        (Ok(group), Ok(stream)) => (group, stream),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let events = match events(input) {
        Ok(events) => events,
        Err(answer) => return answer,
    };
    if let Some(seen) = fake.log.last_mut() {
        seen.events = events.len();
    }
    if let Err(text) = batch_rules(&events, request.now_ms) {
        fake.violation(&text);
        return invalid(&text);
    }
    if fake.denied_streams.contains(stream) {
        return error("AccessDeniedException", "not authorized to perform: logs:PutLogEvents");
    }
    let Some(found) = fake.groups.get_mut(group) else {
        return error("ResourceNotFoundException", "The specified log group does not exist.");
    };
    let retention = found.retention_days;
    let Some(stored) = found.streams.get_mut(stream) else {
        return error("ResourceNotFoundException", "The specified log stream does not exist.");
    };

    let oldest = request.now_ms - 14 * DAY_MS;
    let newest = request.now_ms + FUTURE_MS;
    let kept_since = retention.map_or(i64::MIN, |days| request.now_ms - days * DAY_MS);
    let too_old_end = events.iter().rposition(|(at, _)| *at < oldest).map(|at| at + 1);
    let expired_end = events.iter().rposition(|(at, _)| *at < kept_since && *at >= oldest).map(|at| at + 1);
    let too_new_start = events.iter().position(|(at, _)| *at > newest);
    let stored_from = stored.len();
    for (timestamp_ms, message) in &events {
        if *timestamp_ms >= oldest && *timestamp_ms <= newest && *timestamp_ms >= kept_since {
            stored.push(Stored {
                timestamp_ms: *timestamp_ms,
                message: (*message).to_owned(),
                ingested_ms: request.now_ms,
            });
        }
    }
    let stored = stored_from..stored.len();
    fake.filed = Some(Filed {
        group: group.to_owned(),
        stream: stream.to_owned(),
        messages: Messages::of(events.iter().map(|(_, message)| *message)),
        rejected: (events.len() - stored.len()) as u64,
        stored,
    });
    let mut rejected = Map::new();
    for (member, index) in [
        ("tooOldLogEventEndIndex", too_old_end),
        ("expiredLogEventEndIndex", expired_end),
        ("tooNewLogEventStartIndex", too_new_start),
    ] {
        if let Some(index) = index {
            rejected.insert(member.to_owned(), index.into());
        }
    }
    let id = fake.next_id();
    let mut output = Map::new();
    output.insert("nextSequenceToken".to_owned(), format!("{id:056}").into());
    if !rejected.is_empty() {
        output.insert("rejectedLogEventsInfo".to_owned(), Value::Object(rejected));
    }
    FakeAnswer::ok(id, JSON, Value::Object(output).to_string())
}

/// The rules that fail a whole batch, in AWS's words.
fn batch_rules(events: &[(i64, &str)], now_ms: i64) -> Result<(), String> {
    if events.is_empty() || events.len() > MAX_BATCH_EVENTS {
        return Err(format!(
            "1 validation error detected: Value at 'logEvents' failed to satisfy constraint: Member must have length less than \
             or equal to {MAX_BATCH_EVENTS} and greater than or equal to 1, but has {}",
            events.len()
        ));
    }
    let mut bytes = 0;
    for (timestamp_ms, message) in events {
        if *timestamp_ms < 0 {
            return Err("Value at 'logEvents.member.timestamp' must be greater than or equal to 0".to_owned());
        }
        if message.is_empty() {
            return Err("Value at 'logEvents.member.message' must have length greater than or equal to 1".to_owned());
        }
        let size = message.len() + EVENT_OVERHEAD_BYTES;
        if size > MAX_BATCH_BYTES {
            return Err(format!("Log event too large: {size} bytes exceeds limit of {MAX_BATCH_BYTES}"));
        }
        bytes += size;
    }
    if bytes > MAX_BATCH_BYTES {
        return Err(format!("Upload too large: {bytes} bytes exceeds limit of {MAX_BATCH_BYTES}"));
    }
    if !events.is_sorted_by_key(|(at, _)| *at) {
        return Err("Log events in a single PutLogEvents request must be in chronological order.".to_owned());
    }
    let valid = events.iter().filter(|(at, _)| *at >= now_ms - 14 * DAY_MS && *at <= now_ms + FUTURE_MS);
    let (first, last) = (valid.clone().next(), valid.clone().next_back());
    if let (Some((first, _)), Some((last, _))) = (first, last)
        && last - first > DAY_MS
    {
        return Err(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.".to_owned()
        );
    }
    Ok(())
}

fn create_log_stream(fake: &mut FakeCloudWatch, input: &Map<String, Value>) -> FakeAnswer {
    if let Err(answer) = only(input, &["logGroupName", "logStreamName"]) {
        return answer;
    }
    let (group, stream) = match (group_name(input), stream_name(input)) {
        (Ok(group), Ok(stream)) => (group, stream),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let Some(found) = fake.groups.get_mut(group) else {
        return error("ResourceNotFoundException", "The specified log group does not exist.");
    };
    if found.streams.contains_key(stream) {
        return error("ResourceAlreadyExistsException", "The specified log stream already exists");
    }
    found.streams.insert(stream.to_owned(), Vec::new());
    let id = fake.next_id();
    FakeAnswer::ok(id, JSON, String::new())
}

fn create_log_group(fake: &mut FakeCloudWatch, input: &Map<String, Value>) -> FakeAnswer {
    if let Err(answer) = only(input, &["logGroupName"]) {
        return answer;
    }
    let group = match group_name(input) {
        Ok(group) => group,
        Err(answer) => return answer,
    };
    if fake.groups.contains_key(group) {
        return error("ResourceAlreadyExistsException", "The specified log group already exists");
    }
    fake.create(group, &[]);
    let id = fake.next_id();
    FakeAnswer::ok(id, JSON, String::new())
}

fn events(input: &Map<String, Value>) -> Result<Vec<(i64, &str)>, FakeAnswer> {
    let malformed = || error("SerializationException", "logEvents is malformed");
    let list = input.get("logEvents").and_then(Value::as_array).ok_or_else(malformed)?;
    list.iter()
        .map(|event| {
            let event = event.as_object().ok_or_else(malformed)?;
            only(event, &["timestamp", "message"])?;
            let timestamp = event.get("timestamp").and_then(Value::as_i64).ok_or_else(malformed)?;
            let message = event.get("message").and_then(Value::as_str).ok_or_else(malformed)?;
            Ok((timestamp, message))
        })
        .collect()
}

fn group_name(input: &Map<String, Value>) -> Result<&str, FakeAnswer> {
    let name = input.get("logGroupName").and_then(Value::as_str).ok_or_else(|| invalid("logGroupName is missing"))?;
    let legal = |c: char| c.is_ascii_alphanumeric() || ".-_/#".contains(c);
    if name.is_empty() || name.chars().count() > 512 || !name.chars().all(legal) || name.starts_with("aws/") {
        return Err(invalid("Value at 'logGroupName' failed to satisfy constraint: [\\.\\-_/#A-Za-z0-9]+"));
    }
    Ok(name)
}

fn stream_name(input: &Map<String, Value>) -> Result<&str, FakeAnswer> {
    let name = input.get("logStreamName").and_then(Value::as_str).ok_or_else(|| invalid("logStreamName is missing"))?;
    if name.is_empty() || name.chars().count() > 512 || name.contains([':', '*']) {
        return Err(invalid("Value at 'logStreamName' failed to satisfy constraint: [^:*]*"));
    }
    Ok(name)
}

fn only(input: &Map<String, Value>, members: &[&str]) -> Result<(), FakeAnswer> {
    match input.keys().find(|name| !members.contains(&name.as_str())) {
        Some(name) => Err(error("SerializationException", &format!("unknown member {name}"))),
        None => Ok(()),
    }
}

fn invalid(text: &str) -> FakeAnswer {
    error("InvalidParameterException", text)
}

fn error(code: &str, message: &str) -> FakeAnswer {
    FakeAnswer::json_error(400, code, message)
}
