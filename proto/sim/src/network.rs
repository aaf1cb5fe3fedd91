//! The model of the network: every receiver loses, delays and repeats on its own, in bursts too; links are cut one way or
//! both, or hold everything up and let it go at once; multicast may be dead where unicast lives.

use chorus_proto::types::{Span, Time};

use crate::climate::{Class, Climate};

/// The usual delay is at least this.
const DELAY_MIN_US: u64 = 30;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Of 1,000 datagrams so many are lost, at each receiver on its own.
    pub lost: u32,
    /// So many come twice.
    pub repeated: u32,
    /// Of those so many come again very late.
    pub repeated_late: u32,
    /// So many are held up for up to `late_max`, and overtaken.
    pub late: u32,
    /// So many begin a burst, in which a receiver hears nothing.
    pub bursts: u32,
    /// So many are damaged on the way.
    pub damaged: u32,
    /// So many never leave their sender, for any receiver.
    pub unsent: u32,
    /// The usual delay is at most this.
    pub delay_max: Span,
    /// The longest delay.
    pub late_max: Span,
}

/// How one datagram comes to one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// After so long.
    pub after: Span,
    /// Damaged.
    pub damaged: bool,
}

impl Weather {
    /// A quiet wired network.
    pub const CALM: Self = Self {
        lost: 0,
        repeated: 0,
        repeated_late: 0,
        late: 0,
        bursts: 0,
        damaged: 0,
        unsent: 0,
        delay_max: Span(300),
        late_max: Span(300),
    };

    /// Some weather between calm and terrible, of what this climate has.
    #[must_use]
    pub fn draw(rng: &mut fastrand::Rng, climate: &Climate) -> Self {
        let worst = [10, 30, 100, 300][rng.usize(..4)];
        let mut of = |class: Class, most: u32| if climate.has(class) { rng.u32(0..=most) } else { 0 };
        Self {
            lost: of(Class::Loss, worst),
            repeated: of(Class::Duplicates, worst),
            repeated_late: of(Class::LateDuplicates, 500),
            late: of(Class::Late, worst),
            bursts: of(Class::Bursts, 3),
            damaged: of(Class::Damage, worst / 3),
            unsent: of(Class::FullQueues, 20),
            delay_max: Span([200, 1_000, 5_000, 20_000][rng.usize(..4)]),
            late_max: Span([5_000, 50_000, 400_000][rng.usize(..3)]),
        }
    }

    /// How one datagram comes to one receiver: not at all, once, or twice.
    #[must_use]
    pub fn fate(&self, rng: &mut fastrand::Rng) -> [Option<Arrival>; 2] {
        if is_so(rng, self.lost) {
            return [None, None];
        }
        let (after, damaged) = (self.delay(rng), is_so(rng, self.damaged));
        let again = is_so(rng, self.repeated).then(|| Arrival { after: self.again(rng), damaged: false });
        [Some(Arrival { after, damaged }), again]
    }

    /// A datagram never leaves.
    pub fn is_unsent(&self, rng: &mut fastrand::Rng) -> bool {
        is_so(rng, self.unsent)
    }

    /// How long a receiver hears nothing from now on, if a burst begins here.
    pub fn burst(&self, rng: &mut fastrand::Rng) -> Option<Span> {
        is_so(rng, self.bursts).then(|| Span(rng.u64(5_000..200_000)))
    }

    fn delay(&self, rng: &mut fastrand::Rng) -> Span {
        let longest = if is_so(rng, self.late) { self.late_max } else { self.delay_max };
        Span(rng.u64(DELAY_MIN_US..=longest.0.max(DELAY_MIN_US)))
    }

    fn again(&self, rng: &mut fastrand::Rng) -> Span {
        const VERY_LATE_US: u64 = 10_000_000;
        if is_so(rng, self.repeated_late) {
            Span(rng.u64(self.late_max.0..VERY_LATE_US))
        } else {
            self.delay(rng)
        }
    }
}

/// With the probability of so many in a thousand. Draws nothing for none.
fn is_so(rng: &mut fastrand::Rng, of_thousand: u32) -> bool {
    of_thousand > 0 && rng.u32(..1_000) < of_thousand
}

/// The way from one node to another.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    cut: bool,
    /// What is said to the group does not come through; what is said directly does.
    no_multicast: bool,
    /// Everything waits until then.
    clogged_until: Time,
}

/// Which nodes hear which.
#[derive(Debug)]
pub struct Links {
    nodes: usize,
    links: Vec<Link>,
}

impl Links {
    /// Everybody hears everybody.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { nodes, links: vec![Link::default(); nodes * nodes] }
    }

    /// `to` hears `from`, what it says directly or to all.
    #[must_use]
    pub fn hears(&self, from: usize, to: usize, direct: bool) -> bool {
        let link = self.links[from * self.nodes + to];
        !link.cut && (direct || !link.no_multicast)
    }

    /// How long what leaves now is held up on its way.
    #[must_use]
    pub fn held_up(&self, from: usize, to: usize, now: Time) -> Span {
        self.links[from * self.nodes + to].clogged_until.since(now)
    }

    /// Cuts the way from one to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.link(from, to).cut = true;
    }

    /// Cuts between two sides, one of them given by its members.
    pub fn part(&mut self, is_inside: impl Fn(usize) -> bool) {
        self.each(|from, to, link| link.cut |= is_inside(from) != is_inside(to));
    }

    /// Two sides that hear each other only at one node, which hears both.
    pub fn bridge(&mut self, at: usize, is_inside: impl Fn(usize) -> bool) {
        let apart = |from: usize, to: usize| from != at && to != at && is_inside(from) != is_inside(to);
        self.each(|from, to, link| link.cut |= apart(from, to));
    }

    /// What `from` says to all is heard by none of those any more.
    pub fn end_multicast(&mut self, from: usize, is_deaf: impl Fn(usize) -> bool) {
        self.each(|sender, to, link| link.no_multicast |= sender == from && is_deaf(to));
    }

    /// Everything on the way from one to the other waits until then.
    pub fn clog(&mut self, from: usize, to: usize, until: Time) {
        self.link(from, to).clogged_until = until;
    }

    /// Mends everything.
    pub fn mend(&mut self) {
        self.links.fill(Link::default());
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    fn each(&mut self, mut change: impl FnMut(usize, usize, &mut Link)) {
        for (at, link) in self.links.iter_mut().enumerate() {
            change(at / self.nodes, at % self.nodes, link);
        }
    }
}
