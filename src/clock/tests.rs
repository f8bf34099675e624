use super::*;
use std::cell::Cell;

struct Hands {
    wall_ms: Cell<i64>,
    monotonic_ms: Cell<u64>,
    boot: u8,
    synchronised: Cell<bool>,
}

impl Hands {
    fn at(boot: u8, wall_ms: i64) -> Self {
        Self { wall_ms: Cell::new(wall_ms), monotonic_ms: Cell::new(10_000), boot, synchronised: Cell::new(false) }
    }

    fn pass(&self, ms: i64) {
        self.wall_ms.set(self.wall_ms.get() + ms);
        self.monotonic_ms.set(self.monotonic_ms.get() + ms.cast_unsigned());
    }

    /// An answer that says this time, half a second ago.
    fn heard(&self, date_ms: i64, new_connection: bool) -> Heard {
        let now_ms = self.monotonic_ms.get();
        Heard::between(date_ms, now_ms - 50, now_ms, new_connection)
    }
}

impl Clock for Hands {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.get()
    }
    fn monotonic_ms(&self) -> u64 {
        self.monotonic_ms.get()
    }
    fn boot_id(&self) -> [u8; 16] {
        [self.boot; 16]
    }
    fn synchronised(&self) -> bool {
        self.synchronised.get()
    }
    fn random(&self) -> u64 {
        4
    }
}

const DAY_MS: i64 = 86_400_000;
const NOW_MS: i64 = RELEASE_EPOCH_S * 1000 + 60 * DAY_MS;
const NEVER: True = True(0);

fn keeper(clock: &Hands) -> Timekeeper {
    Timekeeper::new(clock, Vec::new(), 0)
}

fn about(ms: i64, expected_ms: i64) -> bool {
    (ms - expected_ms).abs() <= 1_100
}

#[test]
fn a_step_moves_what_was_scraped_before_it() {
    let clock = Hands::at(1, 5_000);
    let mut keeper = keeper(&clock);
    assert_eq!(keeper.standing(&clock), Standing::NotCredible);
    let (wall_ms, monotonic_ms) = (clock.wall_ms(), clock.monotonic_ms());
    clock.pass(60_000);
    clock.wall_ms.set(NOW_MS);
    assert!(keeper.observe(&clock).is_some());
    assert_eq!(keeper.standing(&clock), Standing::Credible);
    let placement = keeper.place(&[1; 16], monotonic_ms, Device(wall_ms), NEVER);
    assert_eq!(wall_ms + placement.delta_ms, NOW_MS - 60_000);
    assert!(!placement.estimated);
}

#[test]
fn slewing_and_the_seconds_of_a_date_move_nothing() {
    let clock = Hands::at(1, NOW_MS);
    let mut keeper = keeper(&clock);
    clock.pass(1000);
    clock.wall_ms.set(clock.wall_ms.get() + 300);
    assert_eq!(keeper.observe(&clock), None);
    for error_ms in [-900, 0, 900] {
        assert!(!keeper.hear(clock.heard(clock.wall_ms() + error_ms, false), &clock));
    }
    assert_eq!(keeper.place(&[1; 16], 10_000, Device(NOW_MS), NEVER).delta_ms, 0);
    assert_eq!(keeper.standing(&clock), Standing::Confirmed);
}

#[test]
fn a_clock_that_cannot_be_right_believes_the_first_answer() {
    let clock = Hands::at(1, 5_000);
    let mut keeper = keeper(&clock);
    assert_eq!(keeper.question(&clock), Some(Question::NoClock));
    assert!(keeper.hear(clock.heard(NOW_MS, true), &clock));
    assert_eq!((keeper.standing(&clock), keeper.question(&clock)), (Standing::Confirmed, None));
    assert!(about(keeper.now(&clock).0, NOW_MS) && !keeper.is_certain());
    assert!(about(keeper.place(&[1; 16], 10_000, Device(5_000), NEVER).delta_ms, NOW_MS - 5_000));
}

#[test]
fn an_answer_that_contradicts_a_plausible_clock_needs_a_second_one() {
    let clock = Hands::at(1, NOW_MS);
    let mut keeper = keeper(&clock);
    assert!(!keeper.hear(clock.heard(NOW_MS + 3 * DAY_MS, true), &clock));
    assert_eq!(keeper.question(&clock), Some(Question::Contested));
    assert!(!keeper.hear(clock.heard(NOW_MS + 3 * DAY_MS, false), &clock), "the same connection says nothing new");
    assert!(keeper.hear(clock.heard(NOW_MS + 3 * DAY_MS, true), &clock));
    assert!(about(keeper.now(&clock).0, NOW_MS + 3 * DAY_MS) && keeper.is_certain());

    let mut keeper = super::tests::keeper(&clock);
    keeper.hear(clock.heard(NOW_MS + 30 * DAY_MS, true), &clock);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    assert_eq!((keeper.now(&clock), keeper.question(&clock)), (True(NOW_MS), None), "one wrong answer moves nothing");

    let mut keeper = super::tests::keeper(&clock);
    keeper.hear(clock.heard(NOW_MS + DAY_MS, true), &clock);
    keeper.answered_in_vain(&clock);
    assert!(about(keeper.now(&clock).0, NOW_MS + DAY_MS) && !keeper.is_certain(), "one is enough to send");
}

#[test]
fn what_was_confirmed_is_given_up_only_for_two_answers() {
    for by_ntp in [true, false] {
        let clock = Hands::at(1, NOW_MS);
        clock.synchronised.set(by_ntp);
        let mut keeper = keeper(&clock);
        if !by_ntp {
            keeper.hear(clock.heard(NOW_MS, true), &clock);
        }
        keeper.hear(clock.heard(NOW_MS + DAY_MS, true), &clock);
        assert_eq!((keeper.now(&clock), keeper.question(&clock)), (True(NOW_MS), Some(Question::Doubted)));
        keeper.answered_in_vain(&clock);
        assert_eq!(keeper.now(&clock), True(NOW_MS));
        keeper.hear(clock.heard(NOW_MS + 2 * DAY_MS, true), &clock);
        assert_eq!(keeper.now(&clock), True(NOW_MS), "two that do not agree");
        keeper.hear(clock.heard(NOW_MS + 2 * DAY_MS, true), &clock);
        assert!(about(keeper.now(&clock).0, NOW_MS + 2 * DAY_MS) && keeper.is_certain());
    }
}

#[test]
fn no_time_before_the_release_is_believed() {
    for wall_ms in [5_000, NOW_MS] {
        let clock = Hands::at(1, wall_ms);
        let mut keeper = keeper(&clock);
        for _ in 0..3 {
            assert!(!keeper.hear(clock.heard(1_000_000, true), &clock));
        }
        assert_eq!(keeper.now(&clock).0, wall_ms);
    }
}

#[test]
fn dropping_asks_for_two_answers_or_for_one_and_ntp() {
    let clock = Hands::at(1, NOW_MS);
    let mut keeper = keeper(&clock);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    keeper.hear(clock.heard(NOW_MS, false), &clock);
    assert!(!keeper.is_certain(), "one connection");
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    assert!(keeper.is_certain());

    let mut keeper = super::tests::keeper(&clock);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    clock.synchronised.set(true);
    keeper.observe(&clock);
    assert!(keeper.is_certain(), "NTP agrees with it");

    let keeper = super::tests::keeper(&clock);
    assert!(!keeper.is_certain(), "NTP alone");
}

#[test]
fn ages_of_this_boot_need_no_clock_and_those_of_others_a_certain_one() {
    let first = Hands::at(1, NOW_MS);
    let mut keeper = keeper(&first);
    keeper.hear(first.heard(NOW_MS, true), &first);
    let (once, _) = keeper.remembered(&first);
    keeper.hear(first.heard(NOW_MS, true), &first);
    let (boots, floor) = keeper.remembered(&first);
    let second = Hands::at(2, NOW_MS + DAY_MS);
    let mut keeper = Timekeeper::new(&second, once, floor);
    keeper.hear(second.heard(NOW_MS + DAY_MS, true), &second);
    keeper.hear(second.heard(NOW_MS + DAY_MS, true), &second);
    assert_eq!(keeper.oldest_ms(&[1; 16], 1_000, &second), None, "one answer told that boot the time");
    let mut keeper = Timekeeper::new(&second, boots, floor);
    assert_eq!(keeper.oldest_ms(&[2; 16], 4_000, &second), Some(6_000));
    assert_eq!(keeper.oldest_ms(&[2; 16], 40_000, &second), None);
    assert_eq!(keeper.oldest_ms(&[1; 16], 1_000, &second), None, "nobody confirmed this clock");
    keeper.hear(second.heard(NOW_MS + DAY_MS, true), &second);
    assert_eq!(keeper.oldest_ms(&[1; 16], 1_000, &second), None, "one answer");
    keeper.hear(second.heard(NOW_MS + DAY_MS, true), &second);
    let oldest_ms = keeper.oldest_ms(&[1; 16], 1_000, &second).unwrap();
    assert!(about(oldest_ms as i64, 10_000 + DAY_MS - 1_000));
    assert_eq!(keeper.oldest_ms(&[9; 16], 1_000, &second), None, "a boot that was never confirmed");
}

#[test]
fn a_process_that_starts_again_in_the_same_boot_gives_the_same_times() {
    let clock = Hands::at(1, NOW_MS - 3 * DAY_MS);
    let mut keeper = keeper(&clock);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    let before = keeper.place(&[1; 16], 10_000, Device(NOW_MS - 3 * DAY_MS), NEVER);
    let (boots, floor) = keeper.remembered(&clock);
    clock.pass(5_000);
    let mut keeper = Timekeeper::new(&clock, boots, floor);
    assert_eq!(keeper.standing(&clock), Standing::Confirmed);
    keeper.hear(clock.heard(NOW_MS + 5_900, true), &clock);
    assert_eq!(keeper.place(&[1; 16], 10_000, Device(NOW_MS - 3 * DAY_MS), NEVER), before);
}

#[test]
fn boots_that_were_never_confirmed_lie_in_order_between_confirmed_times() {
    let first = Hands::at(1, NOW_MS);
    first.synchronised.set(true);
    let mut keeper = keeper(&first);
    let (boots, floor) = keeper.remembered(&first);
    // Two boots without a network: the saved clock shows a time long past.
    let second = Hands::at(2, NOW_MS - 500_000);
    let mut keeper = Timekeeper::new(&second, boots, floor);
    second.pass(100_000);
    let (boots, floor) = keeper.remembered(&second);
    let third = Hands::at(3, NOW_MS - 400_000);
    let mut keeper = Timekeeper::new(&third, boots, floor);
    third.pass(100_000);
    let (boots, floor) = keeper.remembered(&third);
    let fourth = Hands::at(4, NOW_MS + DAY_MS);
    fourth.synchronised.set(true);
    let keeper = Timekeeper::new(&fourth, boots, floor);
    let time = |boot: u8, monotonic: u64, wall: i64| {
        let placement = keeper.place(&[boot; 16], monotonic, Device(wall), NEVER);
        assert_eq!(placement.estimated, boot != 1);
        wall + placement.delta_ms
    };
    assert_eq!(time(1, 9_000, NOW_MS - 1_000), NOW_MS - 1_000);
    let second_ms = time(2, 50_000, NOW_MS - 450_000);
    let third_ms = time(3, 50_000, NOW_MS - 350_000);
    assert!(NOW_MS < second_ms && second_ms < third_ms && third_ms <= NOW_MS + DAY_MS, "{second_ms} {third_ms}");
}

#[test]
fn a_saved_clock_makes_nothing_too_old_that_may_be_young() {
    let first = Hands::at(1, NOW_MS - 20 * DAY_MS);
    first.synchronised.set(true);
    let (boots, floor) = keeper(&first).remembered(&first);
    // Off for twenty days; the saved clock goes on where it was.
    let second = Hands::at(2, NOW_MS - 20 * DAY_MS + 60_000);
    let mut keeper = Timekeeper::new(&second, boots, floor);
    second.pass(100_000);
    let (boots, floor) = keeper.remembered(&second);
    let third = Hands::at(3, NOW_MS);
    third.synchronised.set(true);
    let keeper = Timekeeper::new(&third, boots, floor);
    let wall = Device(NOW_MS - 20 * DAY_MS + 61_000);
    let own = keeper.place(&[2; 16], 11_000, wall, True(NOW_MS - 30 * DAY_MS));
    assert_eq!(own.delta_ms, 0, "its own clock contradicts nothing");
    let late = keeper.place(&[2; 16], 11_000, wall, True(NOW_MS - 14 * DAY_MS));
    assert!(wall.0 + late.delta_ms > NOW_MS - DAY_MS && late.estimated, "{late:?}");
}

#[test]
fn absurd_hints_are_not_believed() {
    let clock = Hands::at(1, NOW_MS);
    let boot = |base_ms, last_monotonic_ms| Boot {
        id: "07".repeat(16),
        base_ms,
        confirmed: true,
        last_monotonic_ms,
        by_aws: Some(true),
        certain: Some(true),
        told_ms: None,
    };
    for (base_ms, last_ms) in [(i64::MAX, 0), (i64::MIN, 0), (0, u64::MAX), (NOW_MS, u64::MAX / 2)] {
        for credible_ms in [i64::MAX, i64::MIN, -1] {
            let mut keeper = Timekeeper::new(&clock, vec![boot(base_ms, last_ms)], credible_ms);
            assert_eq!(keeper.standing(&clock), Standing::Credible, "{base_ms} {last_ms} {credible_ms}");
            keeper.place(&[7; 16], u64::MAX, Device(i64::MIN), NEVER);
            keeper.place(&[8; 16], u64::MAX, Device(i64::MAX), True(i64::MIN));
            keeper.oldest_ms(&[7; 16], u64::MAX, &clock);
            keeper.hear(Heard::between(i64::MAX, 0, u64::MAX, true), &clock);
            keeper.learn_boot(&[9; 16], i64::MIN, Some(u64::MAX), u64::MAX);
            keeper.place(&[9; 16], u64::MAX, Device(i64::MAX), NEVER);
            keeper.remembered(&clock);
        }
    }
}

#[test]
fn a_floor_that_was_wrong_is_corrected_by_a_certain_time() {
    let clock = Hands::at(1, NOW_MS);
    let mut keeper = Timekeeper::new(&clock, Vec::new(), NOW_MS + 900 * DAY_MS);
    assert_eq!(keeper.standing(&clock), Standing::NotCredible);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    assert_eq!(keeper.remembered(&clock).1, NOW_MS);
}

#[test]
fn certificates_are_judged_by_what_is_believed() {
    let clock = Hands::at(1, 5_000);
    let mut keeper = keeper(&clock);
    assert_eq!(keeper.certificate_time(&clock), CertificateTime::At(RELEASE_EPOCH_S));
    keeper.hear(clock.heard(NOW_MS, true), &clock);
    assert!(matches!(keeper.certificate_time(&clock), CertificateTime::At(at) if about(at * 1000, NOW_MS)));
    let clock = Hands::at(1, NOW_MS);
    assert_eq!(super::tests::keeper(&clock).certificate_time(&clock), CertificateTime::Clock);
}

#[test]
fn records_that_were_written_after_the_state_know_better() {
    let first = Hands::at(1, NOW_MS - 7_200_000);
    first.synchronised.set(true);
    let (boots, floor) = keeper(&first).remembered(&first);
    let second = Hands::at(2, NOW_MS + DAY_MS);
    let mut keeper = Timekeeper::new(&second, boots, floor);
    keeper.learn_boot(&[1; 16], NOW_MS - 20_000, Some(20_000), 30_000);
    let early = keeper.place(&[1; 16], 12_000, Device(NOW_MS - 7_198_000), NEVER);
    assert_eq!(NOW_MS - 7_198_000 + early.delta_ms, NOW_MS - 8_000);
    keeper.learn_boot(&[1; 16], NOW_MS - DAY_MS, Some(25_000), 30_000);
    assert_eq!(keeper.place(&[1; 16], 12_000, Device(NOW_MS - 7_198_000), NEVER), early, "the state is newer");
}

#[test]
fn absurd_times_of_records_end_nothing() {
    let times = [i64::MIN, i64::MIN + 1, -1, 0, 1, NOW_MS, i64::MAX];
    for (base_ms, confirmed) in times.into_iter().flat_map(|ms| [(ms, None), (ms, Some(0)), (ms, Some(u64::MAX))]) {
        let clock = Hands::at(1, NOW_MS);
        let mut keeper = keeper(&clock);
        keeper.learn_boot(&[2; 16], base_ms, confirmed, u64::MAX);
        keeper.learn_boot(&[3; 16], -1, confirmed, 0);
        for certain in [false, true] {
            for (wall_ms, monotonic_ms) in times.into_iter().flat_map(|ms| [(ms, 0), (ms, u64::MAX)]) {
                for boot in [1, 2, 3, 4] {
                    keeper.place(&[boot; 16], monotonic_ms, Device(wall_ms), True(NOW_MS - DAY_MS));
                    keeper.oldest_ms(&[boot; 16], u64::MAX, &clock);
                }
            }
            if !certain {
                keeper.hear(clock.heard(NOW_MS, true), &clock);
                keeper.hear(clock.heard(NOW_MS, true), &clock);
                assert!(keeper.is_certain());
            }
        }
    }
}

#[test]
fn what_is_certain_is_held_against_a_boot_that_was_confirmed_once() {
    // A certain boot, one that NTP alone set wrong, and the present one, a day after each other.
    for (wrong_ms, holds) in [(0, true), (-3_600_000, true), (30 * DAY_MS, false), (-30 * DAY_MS, false)] {
        let first = Hands::at(1, NOW_MS);
        let mut keeper = keeper(&first);
        keeper.hear(first.heard(NOW_MS, true), &first);
        keeper.hear(first.heard(NOW_MS, true), &first);
        let (boots, floor) = keeper.remembered(&first);
        let second = Hands::at(2, NOW_MS + DAY_MS + wrong_ms);
        second.synchronised.set(true);
        let mut keeper = Timekeeper::new(&second, boots, floor);
        let (boots, floor) = keeper.remembered(&second);
        let third = Hands::at(3, NOW_MS + 2 * DAY_MS);
        let mut keeper = Timekeeper::new(&third, boots, floor);
        keeper.hear(third.heard(NOW_MS + 2 * DAY_MS, true), &third);
        keeper.hear(third.heard(NOW_MS + 2 * DAY_MS, true), &third);
        let wall_ms = NOW_MS + DAY_MS + wrong_ms;
        let placement = keeper.place(&[2; 16], 10_000, Device(wall_ms), NEVER);
        assert_eq!((placement.estimated, keeper.is_sure_of(&[2; 16])), (!holds, false), "off by {wrong_ms}");
        let at_ms = wall_ms + placement.delta_ms;
        assert!(holds || (NOW_MS..=NOW_MS + 2 * DAY_MS).contains(&at_ms), "off by {wrong_ms}: {at_ms}");
    }
}

#[test]
fn what_a_single_answer_told_is_the_best_that_is_known_of_a_boot_that_ended_before_the_second() {
    let first = Hands::at(1, NOW_MS + 30 * DAY_MS);
    let mut keeper = keeper(&first);
    keeper.hear(first.heard(NOW_MS, true), &first);
    let (boots, floor) = keeper.remembered(&first);
    assert_eq!(Timekeeper::new(&first, boots.clone(), floor).question(&first), Some(Question::Contested));
    let second = Hands::at(2, NOW_MS + DAY_MS);
    second.synchronised.set(true);
    let keeper = Timekeeper::new(&second, boots, floor);
    let wall = Device(NOW_MS + 30 * DAY_MS);
    assert!(about(wall.0 + keeper.place(&[1; 16], 10_000, wall, NEVER).delta_ms, NOW_MS));

    // A wrong answer of that kind contradicts what came after; the boot's own clock does not.
    let first = Hands::at(1, NOW_MS);
    let mut keeper = super::tests::keeper(&first);
    keeper.hear(first.heard(NOW_MS + 30 * DAY_MS, true), &first);
    let (boots, floor) = keeper.remembered(&first);
    let keeper = Timekeeper::new(&second, boots, floor);
    assert_eq!(keeper.place(&[1; 16], 10_000, Device(NOW_MS), NEVER).delta_ms, 0);
}

#[test]
fn what_a_single_answer_told_a_boot_stands_against_every_clock_that_nobody_confirmed() {
    // A confirmed boot; two whose saved clock stood still for an hour each, of which the first was told the time; the present one.
    let first = Hands::at(1, NOW_MS);
    first.synchronised.set(true);
    let (boots, floor) = keeper(&first).remembered(&first);
    let second = Hands::at(2, NOW_MS + 20_000);
    let mut keeper = Timekeeper::new(&second, boots, floor);
    keeper.hear(second.heard(NOW_MS + 3_600_000, true), &second);
    let (boots, floor) = keeper.remembered(&second);
    let third = Hands::at(3, NOW_MS + 40_000);
    let (boots, floor) = Timekeeper::new(&third, boots, floor).remembered(&third);
    let fourth = Hands::at(4, NOW_MS + 3 * 3_600_000);
    fourth.synchronised.set(true);
    let keeper = Timekeeper::new(&fourth, boots, floor);
    let place = |boot: u8, wall_ms: i64| {
        let placement = keeper.place(&[boot; 16], 10_000, Device(wall_ms), NEVER);
        (wall_ms + placement.delta_ms, placement.estimated)
    };
    let (told_ms, estimated) = place(2, NOW_MS + 20_000);
    assert!(about(told_ms, NOW_MS + 3_600_000) && !estimated, "{told_ms}");
    let (after_ms, estimated) = place(3, NOW_MS + 40_000);
    assert!(
        after_ms > told_ms && after_ms <= NOW_MS + 3 * 3_600_000 && estimated,
        "{after_ms}: the boots are in order"
    );
}

#[test]
fn ntp_that_agrees_with_aws_moves_nothing_by_less_than_a_step() {
    let clock = Hands::at(1, NOW_MS + 30 * DAY_MS);
    let mut keeper = keeper(&clock);
    for _ in 0..2 {
        keeper.hear(clock.heard(NOW_MS - 400, true), &clock);
    }
    let scraped = Device(NOW_MS + 30 * DAY_MS);
    let sent = keeper.place(&[1; 16], 10_000, scraped, NEVER);
    clock.wall_ms.set(NOW_MS);
    clock.synchronised.set(true);
    keeper.observe(&clock);
    assert_eq!(keeper.place(&[1; 16], 10_000, scraped, NEVER), sent, "a copy of it must have the same time");
    clock.wall_ms.set(NOW_MS + 1_200);
    keeper.observe(&clock);
    assert_eq!(keeper.now(&clock), True(NOW_MS + 1_200));
}
