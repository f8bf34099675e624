//! Every recorded case through the whole agent, to what the strict CloudWatch Logs has stored.

use super::*;
use crate::golden::compare::{Case, Delivered};
use std::collections::BTreeMap;

fn replay(case: &Case) -> Result<(), String> {
    let json = case.agent_json.replace("@DIR@", "/etc").replace("@ENDPOINT@", ENDPOINT);
    let mut json: serde_json::Value = serde_json::from_str(&json).expect("the case's JSON");
    json["promwatch"] = serde_json::json!({"state_dir": "/state"});
    let prometheus = case.prometheus_yaml.replace("@DIR@", "/etc");
    let mut device = Device::with_files(7, &json.to_string(), &prometheus);
    device.net.cloud.borrow_mut().region = "us-east-1".to_owned();
    device.watch.identities = false;
    for (port, answers) in &case.targets {
        let page = |answer: &crate::golden::compare::Answer| {
            (answer.status, answer.content_type.clone().unwrap_or_default(), answer.body.clone())
        };
        let exporter = Exporter { pages: answers.iter().map(page).collect(), ..Exporter::default() };
        device.net.exporters.borrow_mut().insert(format!("127.0.0.1:{port}"), exporter);
    }
    device.start();
    // The link fails in the middle: what was delayed on disk must come out as the same bytes.
    device.run_ms(case.interval_s * 1500);
    device.net.link.set(Link::Refused);
    device.run_ms(case.interval_s * 1000 * (case.rounds() as u64 + 3));
    device.net.exporters.borrow_mut().values_mut().for_each(|exporter| exporter.down = true);
    device.net.link.set(Link::Up(20));
    device.settle(600_000);
    device.stop();
    device.check_server();
    let mut scrapes = BTreeMap::new();
    for (port, answers) in &case.targets {
        let exporters = device.net.exporters.borrow();
        let times = &exporters[&format!("127.0.0.1:{port}")].times_ms;
        assert!(times.len() >= answers.len(), "{}: {port} was asked {} times", case.name, times.len());
        for (n, time_ms) in times.iter().take(answers.len()).enumerate() {
            scrapes.insert(*time_ms, format!("{}@{port}", n + 1));
        }
    }
    let cloud = device.net.cloud.borrow();
    let delivered: Vec<Delivered> = cloud
        .all_events()
        .map(|(group, stream, event)| Delivered {
            group: group.to_owned(),
            stream: stream.to_owned(),
            timestamp_ms: event.timestamp_ms,
            message: event.message.clone(),
        })
        .collect();
    case.compare(&delivered, &scrapes)
}

#[test]
fn every_recorded_case_arrives_as_a_real_agent_would_have_sent_it() {
    let failures: Vec<String> = Case::all().iter().filter_map(|case| replay(case).err()).collect();
    assert!(failures.is_empty(), "{}", failures.concat());
}
