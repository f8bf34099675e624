//! What is true of each boot's clock, and whether anybody could have told the agent.

use super::clock::SimClock;
use super::net::SimNet;

/// One boot of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// Its number.
    pub number: u8,
    /// True time of the first look.
    pub from_ms: i64,
    /// True time of the last look.
    pub to_ms: i64,
    /// Receipts of CloudWatch Logs when the agent could first know the time: the kernel called a right clock synchronised, or an
    /// answer with the service's mark and the right `Date` had arrived.
    pub confirmed: Option<usize>,
    /// True time of that.
    pub confirmed_ms: i64,
    /// The kernel called a wrong clock synchronised. Nobody can see through that who has no other source.
    pub misled: bool,
}

/// All boots, oldest first.
#[derive(Default)]
pub struct Truth {
    /// The boots.
    pub boots: Vec<Boot>,
}

impl Truth {
    /// A unit of work is over, in which the agent looked at the clock.
    pub fn look(&mut self, clock: &SimClock, net: &SimNet, receipts: usize) {
        let (number, now_ms) = (clock.boot.get(), clock.true_ms());
        if self.boots.last().is_none_or(|boot| boot.number != number) {
            self.boots.push(Boot {
                number,
                from_ms: now_ms,
                to_ms: now_ms,
                confirmed: None,
                confirmed_ms: 0,
                misled: false,
            });
        }
        let Some(boot) = self.boots.last_mut() else { return };
        boot.to_ms = now_ms;
        let by_kernel = clock.synchronised.get();
        boot.misled |= by_kernel && !clock.is_right();
        let by_service = net.told_ms.get().is_some_and(|told_ms| told_ms >= boot.from_ms);
        if boot.confirmed.is_none() && ((by_kernel && clock.is_right()) || by_service) {
            (boot.confirmed, boot.confirmed_ms) = (Some(receipts), now_ms);
        }
    }

    /// The boot with that number.
    pub fn boot(&self, number: u8) -> Boot {
        *self.boots.iter().find(|boot| boot.number == number).expect("the agent ran in that boot")
    }
}
