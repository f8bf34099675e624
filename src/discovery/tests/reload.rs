//! What a reload keeps.

use super::*;

const LIST: &str = "http://sd/list";
const MINUTE_MS: u64 = 60_000;

fn http(url: &str) -> Discovery {
    Discovery::Http { url: url.to_owned(), refresh_ms: MINUTE_MS, http: Box::default() }
}

fn named(name: &str, discovery: Vec<Discovery>) -> ScrapeJob {
    ScrapeJob { job_name: name.to_owned(), ..job(discovery) }
}

fn rcs(jobs: &[ScrapeJob]) -> Vec<Rc<ScrapeJob>> {
    jobs.iter().cloned().map(Rc::new).collect()
}

/// All sources are asked once; from then on the server does not answer.
fn asked(jobs: &[ScrapeJob], world: &World) -> Discoverer {
    let mut discoverer = Discoverer::new(rcs(jobs));
    world.answer(200, "application/json", r#"[{"targets": ["a:1", "b:1"]}]"#);
    while discoverer.next_due_ms() == Some(0) {
        discoverer.refresh(world.env());
    }
    *world.answer.borrow_mut() = None;
    world.asked.borrow_mut().clear();
    discoverer
}

/// The job and the address of each target.
fn instances(discoverer: &Discoverer) -> Vec<String> {
    let show = |target: &Rc<Target>| format!("{} {}", target.job.job_name, target.instance());
    discoverer.targets().iter().map(show).collect()
}

#[test]
fn a_list_out_of_reach_keeps_its_targets_over_a_reload() {
    let world = World::default();
    world.now_ms.set(1_000);
    let mut settings = job(vec![http(LIST)]);
    let mut discoverer = asked(std::slice::from_ref(&settings), &world);
    assert_eq!(instances(&discoverer), ["test a:1", "test b:1"]);

    // Other rules and another interval of the job make other targets of the same groups.
    settings.relabel = vec![rule("__address__", "b.*", "", "", RelabelAction::Drop)];
    settings.interval_ms = 15_000;
    settings.honor_labels = true;
    discoverer.reload(rcs(std::slice::from_ref(&settings)));
    assert_eq!(instances(&discoverer), ["test a:1"]);
    let target = &discoverer.targets()[0];
    assert!(target.interval_ms == 15_000 && target.job.honor_labels);

    // The list is asked when it would have been, and its failure changes nothing.
    assert_eq!((discoverer.next_due_ms(), world.asked.borrow().len()), (Some(1_000 + MINUTE_MS), 0));
    world.now_ms.set(1_000 + MINUTE_MS);
    assert!(!discoverer.refresh(world.env()));
    assert_eq!((instances(&discoverer).len(), world.asked.borrow().len()), (1, 1));
    // That the server is known to hang is known still: 10 s were spent on it once.
    discoverer.reload(rcs(std::slice::from_ref(&settings)));
    assert_eq!(errors(&discoverer), ["http://sd/list: out of time"]);
    world.now_ms.set(discoverer.next_due_ms().unwrap());
    assert!(!discoverer.refresh(world.env()));
    assert_eq!(world.asked.borrow().iter().map(|(.., limit)| *limit).collect::<Vec<_>>(), [10_000, 2_000]);
    settings.relabel.clear();
    discoverer.reload(rcs(&[settings]));
    assert_eq!(instances(&discoverer), ["test a:1", "test b:1"]);
}

#[test]
fn a_source_that_asks_something_else_starts_with_nothing() {
    let world = World::default();
    let secret =
        |text: &str| Auth::Header { scheme: "Bearer".to_owned(), credentials: Secret::Inline(text.to_owned()) };
    let with = |url: &str, auth: Auth| Discovery::Http {
        url: url.to_owned(),
        refresh_ms: MINUTE_MS,
        http: Box::new(HttpClient { auth, ..HttpClient::default() }),
    };
    for other in [with("http://sd/other", secret("1")), with(LIST, secret("2")), with(LIST, Auth::None)] {
        let mut discoverer = asked(&[job(vec![with(LIST, secret("1"))])], &world);
        discoverer.reload(rcs(&[job(vec![other])]));
        assert_eq!((discoverer.targets().len(), discoverer.next_due_ms()), (0, Some(0)));
    }
    // How often it asks is no other question, but the answer is not waited for any longer.
    let mut discoverer = asked(&[job(vec![http(LIST)])], &world);
    let often = Discovery::Http { url: LIST.to_owned(), refresh_ms: 5_000, http: Box::default() };
    discoverer.reload(rcs(&[job(vec![often])]));
    assert_eq!((discoverer.targets().len(), discoverer.next_due_ms()), (2, Some(0)));
    discoverer.refresh(world.env());
    assert_eq!((discoverer.targets().len(), discoverer.next_due_ms()), (2, Some(5_000)));
}

#[test]
fn jobs_may_move_and_go_and_be_renamed() {
    let world = World::default();
    let jobs = [
        named("one", vec![Discovery::Static(group(&["s:1"], &[])), http("http://sd/1")]),
        named("two", vec![http("http://sd/2"), http("http://sd/3")]),
        named("three", vec![http("http://sd/4")]),
    ];
    let mut discoverer = asked(&jobs, &world);
    assert_eq!(discoverer.targets().len(), 7);
    let [one, two, three] = jobs;
    discoverer.reload(rcs(&[three.clone(), two.clone(), one.clone()]));
    let want = ["three a:1", "three b:1", "two a:1", "two b:1", "one s:1", "one a:1", "one b:1"];
    assert_eq!(instances(&discoverer), want);
    discoverer.reload(rcs(&[three, ScrapeJob { job_name: "new".to_owned(), ..two }]));
    assert_eq!(instances(&discoverer), ["three a:1", "three b:1", "new a:1", "new b:1"]);
    // What is gone is gone.
    discoverer.reload(rcs(&[one]));
    assert_eq!(instances(&discoverer), ["one s:1"]);
}

#[test]
fn equal_sources_are_matched_one_to_one() {
    let world = World::default();
    let (one, two) = (named("one", vec![http(LIST)]), named("two", vec![http(LIST)]));
    // Job two has its list, a new job one must not take it away.
    let mut discoverer = asked(std::slice::from_ref(&two), &world);
    let three = named("three", vec![http(LIST)]);
    discoverer.reload(rcs(&[one.clone(), two.clone(), three]));
    assert_eq!(instances(&discoverer), ["two a:1", "two b:1"]);
    // One that was never answered goes; the other one's knowledge stays where it is.
    discoverer.reload(rcs(&[two]));
    assert_eq!(instances(&discoverer), ["two a:1", "two b:1"]);
    discoverer.reload(rcs(&[one]));
    assert_eq!(instances(&discoverer), ["one a:1", "one b:1"]);
}

#[test]
fn files_and_names_are_kept_too_and_not_read_again() {
    let world = World::default();
    world.put("/sd/a.json", r#"[{"targets": ["a:1"]}]"#);
    world.records("srv.example", &[("one.example", 9100)]);
    let file = Discovery::File { patterns: vec!["/sd/*.json".to_owned()], refresh_ms: MINUTE_MS };
    let dns = |port| Discovery::Dns {
        names: vec!["srv.example".to_owned()],
        kind: DnsKind::Srv,
        port,
        refresh_ms: MINUTE_MS,
    };
    let settings = job(vec![file.clone(), dns(80)]);
    let mut discoverer = asked(std::slice::from_ref(&settings), &world);
    world.records.borrow_mut().clear();
    discoverer.reload(rcs(&[settings]));
    assert_eq!(instances(&discoverer), ["test a:1", "test one.example:9100"]);
    world.now_ms.set(5_000);
    assert!(!discoverer.refresh(world.env()));
    assert_eq!((world.reads.get(), discoverer.next_due_ms()), (1, Some(10_000)));
    discoverer.reload(rcs(&[job(vec![file, dns(81)])]));
    assert_eq!(instances(&discoverer), ["test a:1"]);
}

#[test]
fn targets_of_a_list_in_another_order_are_found_without_comparing_all_with_all() {
    const COUNT: usize = 2_000;
    let world = World::default();
    let mut discoverer = Discoverer::new(rcs(&[job(vec![http(LIST)])]));
    let mut answer = |order: &mut dyn Iterator<Item = usize>| {
        let list: Vec<String> = order.map(|n| format!("{{\"targets\": [\"t{n}:1\"]}}")).collect();
        world.answer(200, "application/json", &format!("[{}]", list.join(",")));
        world.now_ms.set(world.now_ms.get() + MINUTE_MS);
        COMPARED.set(0);
        assert!(discoverer.refresh(world.env()));
        discoverer.targets().to_vec()
    };
    let before = answer(&mut (0..COUNT));
    let after = answer(&mut (0..COUNT).rev());
    assert!(after.iter().rev().zip(&before).all(|(a, b)| Rc::ptr_eq(a, b)));
    assert!(COMPARED.get() <= 3 * COUNT, "{}", COMPARED.get());
    answer(&mut (COUNT..2 * COUNT));
    assert!(COMPARED.get() <= 3 * COUNT, "{}", COMPARED.get());
}
